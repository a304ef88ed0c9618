import { readFileSync, writeFileSync } from 'node:fs';
import { Agent, request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openssl, removeScratch } from '../support/harness.ts';
import { expectRefusal } from '../support/holder-rules.ts';
import { ownKey } from '../support/own-key.ts';
import { apiName, type Enrolled, type ProductionService, startProduction } from '../support/production.ts';

// Persons and systems: who a client is, whatever certificates it has, and how what it does ends with its certificate or its right.

let test: ProductionService;
beforeAll(async () => {
  test = await startProduction({ limits: { clientCertificate: '30d' } });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Shown {
  readonly fingerprint: string;
  readonly clientId: string;
  readonly kind: string;
  readonly certificate: string;
  readonly roles: readonly string[];
}

let persons = 0;
const person = (roles: string[]): Promise<Enrolled> =>
  test.enrol({ name: `person ${++persons}`, kind: 'person', roles, desks: ['*'] });

/** One more certificate of a person, under one that it has. */
async function another({ client }: Pick<Enrolled, 'client'>) {
  const own = await ownKey();
  const answer = await client.post<Shown>('/client-certificates', { request: own.request, additional: true });
  return { answer, own };
}

describe('a person', () => {
  it('is enrolled by a request for a key of its own, and the certificate is one that TLS takes', async () => {
    const { certificate, client, fingerprint } = await person(['reader']);
    const file = join(test.folder, 'person.pem');
    writeFileSync(file, certificate);
    const ca = join(test.folder, 'tls', 'operations-ca.pem');
    expect(openssl('verify', '-CAfile', ca, '-purpose', 'sslclient', file)).toContain('OK');
    expect((await client.get('/health')).status).toBe(200);
    expect(
      openssl('x509', '-in', file, '-noout', '-fingerprint', '-sha256').replaceAll(':', '').toLowerCase(),
    ).toContain(fingerprint);
  });

  it('is not enrolled without a proof that the key is its own, nor for a key of another', async () => {
    const { own } = await person(['reader']);
    const [_administrator] = test.administrators;
    const body = { name: 'thief', kind: 'person', roles: ['reader'], desks: [], municipalities: ['*'] };
    expectRefusal(
      await test.approved('/clients', { ...body, request: own.request }),
      409,
      'already-certified',
    );
    const broken = Buffer.from((await ownKey()).request, 'base64');
    broken[broken.length - 1] = (broken.at(-1) ?? 0) ^ 1;
    const forged = { ...body, request: broken.toString('base64') };
    expectRefusal(await test.approved('/clients', forged), 400, 'invalid-proof-of-possession');
    expectRefusal(
      await test.approved('/clients', body),
      400,
      'bad-request',
      /exactly one of fingerprint and request/,
    );
  });

  it('has several certificates and is one: what one has proposed the other cannot approve', async () => {
    const enrolled = await person(['revoker']);
    const { answer, own } = await another(enrolled);
    expect(answer).toMatchObject({ status: 201, body: { kind: 'person', roles: ['revoker'] } });
    expect(answer.body.clientId).toBe(enrolled.fingerprint);
    expect(answer.body.fingerprint).not.toBe(enrolled.fingerprint);
    const second = test.through(own.key, answer.body.certificate);
    const proposed = await enrolled.client.post<{ acts: { actId: string }[] }>('/restrictions', {
      match: { platform: 'android' },
      note: 'x',
    });
    expect(proposed.status).toBe(201);
    const approval = `/mass-acts/${proposed.body.acts[0]?.actId}/approval`;
    expectRefusal(await second.post(approval, undefined), 403, 'forbidden', /another client/);
    // A right that is changed is changed for both.
    await test.approved(`/clients/${answer.body.fingerprint}/binding`, { roles: ['reader'] });
    expectRefusal(await enrolled.client.post(approval, undefined), 403, 'forbidden', /needs the role/);
  });

  it('has four certificates in force at most', async () => {
    const enrolled = await person(['reader']);
    for (let i = 0; i < 3; i++) expect((await another(enrolled)).answer.status).toBe(201);
    expectRefusal((await another(enrolled)).answer, 409, 'quota-exceeded', /end one of them first/);
  });

  const end = (fingerprint: string) => `/client-certificates/${fingerprint}/revocation`;

  it('ends one certificate that it lost, and its others go on; that of another it does not find', async () => {
    const [enrolled, other] = [await person(['reader']), await person(['reader'])];
    const own = await ownKey();
    // The other was not asked for under the one that is lost.
    const certificates = `/clients/${enrolled.fingerprint}/certificates`;
    const given = await test.approved<Shown>(certificates, { request: own.request });
    expect(given).toMatchObject({ status: 201, body: { clientId: enrolled.fingerprint, kind: 'person' } });
    const second = test.through(own.key, given.body.certificate);
    const none = await second.post(end('0'.repeat(64)), undefined);
    const others = await second.post(end(other.fingerprint), undefined);
    expect(others.body).toEqual({ ...(none.body as object), instance: expect.any(String) });
    expectRefusal(others, 404, 'not-found');
    expect((await second.post(end(enrolled.fingerprint), undefined)).status).toBe(200);
    expectRefusal(await enrolled.client.get('/health'), 401, 'unauthenticated', /shut out/);
    expect((await second.get('/health')).status).toBe(200);
    expect((await test.administrators[0].post(end(other.fingerprint), undefined)).status).toBe(200);
    expectRefusal(await other.client.get('/health'), 401, 'unauthenticated');
  });

  it('ends with a certificate those that were asked for under it: a thief of its key may have asked', async () => {
    const enrolled = await person(['reader']);
    const stolen = await another(enrolled);
    const thief = test.through(stolen.own.key, stolen.answer.body.certificate);
    const further = await another({ client: thief });
    const renewed = await ownKey();
    const renewal = await enrolled.client.post<Shown>('/client-certificates', { request: renewed.request });
    expect([further.answer.status, renewal.status]).toEqual([201, 201]);
    await test.administrators[0].post(end(enrolled.fingerprint), undefined);
    for (const [key, certificate] of [
      [stolen.own.key, stolen.answer.body.certificate],
      [further.own.key, further.answer.body.certificate],
      [renewed.key, renewal.body.certificate],
    ] as const)
      expectRefusal(await test.through(key, certificate).get('/health'), 401, 'unauthenticated');
    // The person is enrolled no second time, and certified for a key of its own again.
    const own = await ownKey();
    const path = `/clients/${enrolled.fingerprint}/certificates`;
    const given = await test.approved<Shown>(path, { request: own.request });
    expect((await test.through(own.key, given.body.certificate).get('/health')).status).toBe(200);
  });

  it('that was shut out is let in again by two, who see that it was; under its name, for that stays its own', async () => {
    const { fingerprint, client } = await person(['reader']);
    const [one, two] = test.administrators;
    await one.post(`/clients/${fingerprint}/revocation`, undefined);
    const own = await ownKey();
    const path = `/clients/${fingerprint}/certificates`;
    const asked = await one.post<{ plan: object }>(path, { request: own.request });
    expect(asked).toMatchObject({ status: 202, body: { plan: { before: { revokedAt: /Z$/ } } } });
    const { proposalId, planHash } = asked.body as unknown as { proposalId: string; planHash: string };
    await two.post(`/proposals/${proposalId}/approval`, { planHash });
    expectRefusal(await client.get('/health'), 401, 'unauthenticated');
    const { body } = await one.get<{ clients: Shown[] }>('/clients');
    expect(body.clients.filter(({ clientId }) => clientId === fingerprint)).toHaveLength(2);
  });

  it('has no right of a system', async () => {
    const [_administrator] = test.administrators;
    for (const role of ['follower', 'ocsp', 'tsm', 'verifier']) {
      const body = { name: `machine ${role}`, kind: 'person', roles: [role], desks: [] };
      const { request } = await ownKey();
      expectRefusal(
        await test.approved('/clients', { ...body, request }),
        400,
        'bad-request',
        /is for systems/,
      );
    }
    const { fingerprint } = await person(['reader']);
    const bound = await test.approved(`/clients/${fingerprint}/binding`, { roles: ['follower'] });
    expectRefusal(bound, 400, 'bad-request', /is for systems/);
  });
});

describe('a name', () => {
  const named = async (name: string) =>
    test.approved<Shown>('/clients', {
      ...{ name, kind: 'person', roles: ['reader'], desks: [], municipalities: ['*'] },
      request: (await ownKey()).request,
    });

  it('is of one client alone, whatever its case, width and spaces, also once that has ended', async () => {
    const first = await named('Tanaka Ｋen');
    expect(first.status).toBe(201);
    await test.administrators[0].post(`/clients/${first.body.fingerprint}/revocation`, undefined);
    for (const name of ['Tanaka Ｋen', 'TANAKA KEN', 'tanaka  ken', 'Tanaka\u3000Ken'])
      expectRefusal(await named(name), 409, 'in-use', /has, or had, the name Tanaka Ｋen/);
    expect((await named('Tanaka Kento')).status).toBe(201);
  });

  it.each([
    ['a control character', 'Ta\u0007naka'],
    ['a line feed', 'Tanaka\nrevoked'],
    ['a C1 control character', 'Ta\u0085naka'],
    ['a character that turns the direction of text', 'Ta\u202enaka'],
    ['an isolate', 'Ta\u2067naka'],
    ['a character of no width', 'Ta\u200bnaka'],
    ['a line separator', 'Ta\u2028naka'],
    ['half of a surrogate pair', 'Ta\ud800naka'],
    ['a private character', 'Ta\ue000naka'],
    ['a space at its end', 'Tanaka '],
    ['nothing but a space', ' '],
    ['a variation selector', 'Tanaka\ufe0f'],
    ['the empty Braille pattern', 'Tanaka\u2800'],
    ['a Hangul filler', 'Ta\u3164naka'],
    ['a combining grapheme joiner', 'Ta\u034fnaka'],
    ['a soft hyphen', 'Ta\u00adnaka'],
    ['a Cyrillic letter', 'T\u0430naka'],
    ['a Greek letter', 'Tan\u03b1ka'],
    ['an Armenian letter', 'Tan\u0561ka'],
    ['nothing but signs', '...'],
  ])('with %s is refused', async (_what, name) => {
    expectRefusal(await named(name), 400, 'bad-request');
  });

  it('may be Japanese, and longer than a certificate has room for', async () => {
    const name = `${'長い名前'.repeat(24)}の人`;
    const { status, body } = await named(name);
    expect(status).toBe(201);
    const file = join(test.folder, 'long.pem');
    writeFileSync(file, body.certificate);
    expect(openssl('x509', '-in', file, '-noout', '-subject', '-nameopt', 'utf8')).toContain(
      '長い名前'.repeat(16),
    );
  });
});

describe('what lasts ends with the certificate or the right', () => {
  /** A request on a connection that is kept; resolves with the status of its answer, and gives when the connection is closed. */
  function kept({ own, certificate }: Enrolled) {
    const ca = readFileSync(join(test.folder, 'tls', 'operations-ca.pem'));
    const agent = new Agent({
      keepAlive: true,
      maxSockets: 1,
      key: own.key,
      cert: certificate,
      ca,
      servername: apiName,
    });
    const get = (
      path: string,
    ): Promise<{ status: number; closed: Promise<unknown>; body: NodeJS.ReadableStream }> =>
      new Promise((resolve, reject) => {
        const request = httpsRequest(`${test.service.addresses.api}/v1${path}`, { agent }, (response) => {
          const closed = new Promise((done) => response.socket.once('close', done));
          if (path !== '/feed') response.resume();
          resolve({ status: response.statusCode ?? 0, closed, body: response });
        });
        request.once('error', reject).end();
      });
    return { get, agent };
  }

  const shutOut = (fingerprint: string) =>
    test.administrators[0].post(`/clients/${fingerprint}/revocation`, undefined);

  it('a connection that is kept and idle is closed when its client is shut out', async () => {
    const enrolled = await person(['reader']);
    const { get } = kept(enrolled);
    const { status, closed } = await get('/health');
    expect(status).toBe(200);
    await shutOut(enrolled.fingerprint);
    await closed;
  });

  it('a connection that is kept is refused once its certificate has ended, and closed', async () => {
    const enrolled = await person(['reader']);
    const { get } = kept(enrolled);
    const { closed } = await get('/health');
    test.clock.advance(31 * 86_400_000);
    try {
      const late = enrolled.client.get('/health');
      expectRefusal(await late, 401, 'unauthenticated', /has ended/);
      await closed;
    } finally {
      test.clock.advance(-31 * 86_400_000);
    }
  });

  it('the feed ends when its client is shut out, and when it is no follower any more', async () => {
    for (const [i, end] of [
      shutOut,
      (fingerprint: string) => test.approved(`/clients/${fingerprint}/binding`, { roles: ['tsm'] }),
    ].entries()) {
      const enrolled = await test.enrol({ name: `follower ${i}`, kind: 'system', roles: ['follower'] });
      const { body } = await kept(enrolled).get('/feed');
      const ended = new Promise((resolve) => body.once('error', resolve).once('close', resolve).resume());
      await end(enrolled.fingerprint);
      await ended;
    }
  });

  it('a batch on which nothing moves ends when its client is no issuer any more, with a line that says why', async () => {
    const { client, fingerprint } = await test.enrol({
      ...{ name: 'idle batch', kind: 'system', roles: ['issuer', 'reader'], desks: ['*'] },
    });
    const over = Promise.withResolvers<void>();
    const lines = async function* () {
      yield Buffer.from('{}\n');
      await over.promise;
    };
    const titles: string[] = [];
    const reading = (async () => {
      for await (const line of client.batch(lines()))
        titles.push((JSON.parse(line.toString('utf8')) as { problem: { title: string } }).problem.title);
    })();
    await expect.poll(() => titles).toEqual(['bad-request']);
    await test.approved(`/clients/${fingerprint}/binding`, { roles: ['reader'] });
    await reading.catch((error: unknown) => expect(error).toBeInstanceOf(Error));
    over.resolve();
    expect(titles).toEqual(['bad-request', 'forbidden']);
    // The rest of what it may do it may still do.
    expect((await client.get('/switches')).status).toBe(200);
  });
});
