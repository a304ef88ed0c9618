import { readFileSync } from 'node:fs';
import { connect, type SecureVersion } from 'node:tls';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describedRoutes, openApiDocument } from '../../ca/api/openapi.ts';
import { verifierDocument } from '../../ca/api/openapi-verifiers.ts';
import { roles } from '../../ca/api/schema.ts';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { oid } from '../../core/asn1/oids.ts';
import { errorStatus } from '../../core/runtime/errors.ts';
import {
  base64,
  cardRequest,
  derOf,
  enrolmentContent,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  dataFolder,
  dayInJapan,
  enrolmentParts,
  fileOf,
  fixture,
  fixtureKey,
  getChallenge,
  issueCard,
  issuePhone,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { ownKey } from '../support/own-key.ts';

interface Problem {
  title: string;
  status: number;
  detail: string;
}
interface Changed {
  dryRun: boolean;
  changes: {
    kind: string;
    serialNumber: string;
    to: { state: string; reason: string };
    cause: { event: string; cascadedFrom: { serialNumber: string } | null };
  }[];
  orders: { type: string; deviceId: string }[];
}
interface HolderBody {
  media: { mediumId: string; type: string }[];
  certificates: { kind: string; status: { state: string; reason: string | null } }[];
}

let test: TestService;
let api: CaClient;

beforeAll(async () => {
  test = await startTestService({
    folder: await dataFolder({
      limits: { requestTimeout: '1s' },
      notices: { verifiers: [{ name: 'verifier', url: 'http://127.0.0.1:9/' }] },
    }),
  });
  api = test.api;
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const pairOf = async () => ({ signing: await makeChipKey(), authentication: await makeChipKey() });

/** A refusal: its status and code, as a problem document of RFC 9457. */
function expectProblem(answer: Answer<unknown>, status: number, title: string, detail?: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title, type: `urn:warifu:problem:${title}` } });
  expect(answer.type).toContain('application/problem+json');
  if (detail) expect((answer.body as Problem).detail).toMatch(detail);
}

const certificatePath = (issued: Issued, kind: string): string => {
  const found = issued.certificates.find((certificate) => certificate.kind === kind);
  return `/certificates/${found?.authority}/${found?.serialNumber}`;
};
const stateOf = async (issued: Issued, kind: string) =>
  (await api.get<{ status: { state: string; reason: string | null } }>(certificatePath(issued, kind))).body
    .status;

describe('TLS', () => {
  it('admits no client without a client certificate of the operations CA', async () => {
    const { hostname, port } = new URL(test.service.addresses.api);
    const ca = readFileSync(`${test.folder}/tls/operations-ca.pem`);
    const attempt = (options: object) =>
      new Promise<string>((resolve) => {
        const socket = connect({
          host: hostname,
          port: Number(port),
          ca,
          servername: 'localhost',
          ...options,
        });
        socket.on('data', (data) => resolve(String(data)));
        socket.on('error', (error) => resolve(error.message));
        socket.on('close', () => resolve('closed'));
        socket.write('GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      });
    expect(await attempt({})).not.toContain('HTTP/1.1');
    const keyFile = fixture('p256.key');
    const key = readFileSync(keyFile);
    const cert = openssl('req', '-x509', '-new', '-key', keyFile, '-subj', '/CN=first client', '-days', '1');
    expect(await attempt({ key, cert })).not.toContain('HTTP/1.1');
    expect(
      await attempt({
        key: readFileSync(`${test.folder}/clients/first.key`),
        cert: readFileSync(`${test.folder}/clients/first.pem`),
      }),
    ).toContain('HTTP/1.1 200');
  });

  it('speaks TLS 1.3, and an older version only where that is configured', async () => {
    const { hostname, port } = new URL(test.service.addresses.api);
    const attempt = (version: SecureVersion) =>
      new Promise<string | null>((resolve) => {
        const ca = readFileSync(`${test.folder}/tls/operations-ca.pem`);
        // Without the lowest security level OpenSSL would not even offer the old versions.
        const ciphers = 'DEFAULT@SECLEVEL=0';
        const [key, cert] = ['key', 'pem'].map((end) => readFileSync(`${test.folder}/clients/first.${end}`));
        const versions = { minVersion: version, maxVersion: version };
        const options = { host: hostname, port: Number(port), ca, key, cert, ciphers, ...versions };
        const socket = connect(options, () => {
          resolve(socket.getProtocol());
          socket.destroy();
        });
        socket.on('error', (error) => resolve(error.message));
      });
    expect(await attempt('TLSv1.2')).toMatch(/alert|version/);
    expect(await attempt('TLSv1.3')).toBe('TLSv1.3');
  });
});

describe('issuing to a card', () => {
  it('answers a pair, which openssl verifies, for the two purposes', async () => {
    const { card } = await issueCard(api);
    expect(card.certificates.map(({ kind }) => kind)).toEqual(['card-signing', 'card-authentication']);
    const text = openssl('x509', '-in', fileOf(pemOf(card, 'card-signing')), '-noout', '-text');
    expect(text).toContain('Digital Signature, Non Repudiation');
    expect(text).toContain('CN = 2026');
    expect(openssl('x509', '-in', fileOf(pemOf(card, 'card-authentication')), '-noout', '-subject')).toMatch(
      /CN = [0-9A-Z]{14}DESK00001/,
    );
  });

  it('answers the same when the request is repeated, and refuses its key for another', async () => {
    const body = cardRequest(await pairOf(), { holderId: 'repeated', cardId: 'repeated' });
    const first = await api.post<Issued>('/card-certificates', body, 'same');
    const second = await api.post<Issued>('/card-certificates', body, 'same');
    expect(first.status).toBe(201);
    expect(second.body).toEqual(first.body);
    expect([first.replayed, second.replayed]).toEqual([false, true]);
    expectProblem(
      await api.post('/card-certificates', { ...body, cardId: 'other' }, 'same'),
      409,
      'idempotency-key-reused',
    );
  });

  it('issues once to two requests that race under one key', async () => {
    const body = cardRequest(await pairOf(), { holderId: 'racing', cardId: 'racing' });
    const answers = await Promise.all(
      [1, 2, 3].map(() => api.post<Issued>('/card-certificates', body, 'race')),
    );
    const issued = answers.filter(({ status }) => status === 201);
    expect(issued.length).toBeGreaterThan(0);
    for (const answer of answers.filter(({ status }) => status !== 201))
      expectProblem(answer, 409, 'request-in-progress');
    const { body: holder } = await api.get<HolderBody>('/holders/racing');
    expect(holder.certificates).toHaveLength(2);
  });

  it('issues signing alone after a move, onto the card whose authentication certificate lives on', async () => {
    const holder = await issueCard(api);
    const alone = async () =>
      cardRequest(
        { signing: await makeChipKey() },
        { holderId: holder.holderId, cardId: holder.cardId, municipalityCode: '13104' },
      );
    expectProblem(await api.post('/card-certificates', await alone()), 409, 'slot-occupied');
    await api.post('/events', { event: 'moved', holderId: holder.holderId });
    const answer = await api.post<Issued>('/card-certificates', await alone());
    expect(answer.status).toBe(201);
    expect(answer.body.certificates.map(({ kind }) => kind)).toEqual(['card-signing']);
    const { body } = await api.get<HolderBody>(`/holders/${holder.holderId}`);
    const states = body.certificates.map(({ kind, status }) => `${kind} ${status.state}`).sort();
    expect(states).toEqual(['card-authentication good', 'card-signing good', 'card-signing revoked']);
  });

  it.each<[string, (body: ReturnType<typeof cardRequest>) => object, number, string, RegExp]>([
    ['an unknown member', (body) => ({ ...body, myNumber: '1' }), 400, 'bad-request', /myNumber/],
    ['a missing member', ({ holderId: _, ...body }) => body, 400, 'bad-request', /holderId/],
    [
      'an unknown municipality',
      (body) => ({ ...body, municipalityCode: '99999' }),
      400,
      'bad-request',
      /municipalityCode/,
    ],
    [
      'a card that has expired',
      (body) => ({ ...body, cardExpiresOn: '2020-01-01' }),
      400,
      'bad-request',
      /cardExpiresOn/,
    ],
    [
      'a day that does not exist',
      (body) => ({ ...body, cardExpiresOn: '2030-02-30' }),
      400,
      'bad-request',
      /cardExpiresOn/,
    ],
    [
      'a name outside the repertoire',
      (body) => ({ ...body, basicFour: { ...body.basicFour, name: '😀　花子' } }),
      400,
      'bad-request',
      /U\+1F600/,
    ],
    ['no request at all', (body) => ({ ...body, requests: {} }), 400, 'bad-request', /requests/],
    [
      'authentication alone',
      (body) => ({ ...body, requests: { authentication: body.requests.authentication } }),
      400,
      'bad-request',
      /signing/,
    ],
    [
      'a request that is no PKCS#10',
      (body) => ({ ...body, requests: { ...body.requests, signing: 'AAAA' } }),
      400,
      'bad-request',
      /requests.signing/,
    ],
    [
      'one key for both purposes',
      (body) => ({
        ...body,
        requests: { signing: body.requests.signing, authentication: body.requests.signing },
      }),
      409,
      'already-certified',
      /same public key/,
    ],
  ])('refuses %s, and changes nothing', async (_what, alter, status, title, detail) => {
    const body = cardRequest(await pairOf(), { holderId: 'refused', cardId: 'refused' });
    expectProblem(await api.post('/card-certificates', alter(body)), status, title, detail);
    expectProblem(await api.get('/holders/refused'), 404, 'not-found');
  });

  it('refuses a key that has been certified before, for anyone', async () => {
    const keys = await pairOf();
    await api.post('/card-certificates', cardRequest(keys, { holderId: 'key-1', cardId: 'key-1' }));
    const again = { signing: await makeChipKey(), authentication: keys.signing };
    expectProblem(
      await api.post('/card-certificates', cardRequest(again, { holderId: 'key-2', cardId: 'key-2' })),
      409,
      'already-certified',
    );
  });

  it('refuses a write without an Idempotency-Key', async () => {
    const body = JSON.stringify(cardRequest(await pairOf()));
    expectProblem(
      await api.send('POST', '/card-certificates', body, { 'content-type': 'application/json' }),
      400,
      'bad-request',
      /idempotency-key/,
    );
  });

  it.each([
    ['malformed JSON', '{"a"', 'application/json', 400, 'bad-request'],
    ['another media type', 'a=1', 'application/x-www-form-urlencoded', 415, 'unsupported-media-type'],
    ['a body that is too large', `{"a":"${'x'.repeat(70_000)}"}`, 'application/json', 413, 'too-large'],
    ['an attempt at the prototype', '{"__proto__":{"x":1}}', 'application/json', 400, 'bad-request'],
  ])('refuses %s', async (_what, body, type, status, title) => {
    expectProblem(
      await api.send('POST', '/card-certificates', body, { 'content-type': type, 'idempotency-key': 'x' }),
      status,
      title,
    );
  });
});

describe('issuing to a phone', () => {
  it('answers a pair with the basic four, municipality and expiry of the card', async () => {
    const holder = await issueCard(api);
    const { phone } = await issuePhone(api, holder);
    expect(phone.certificates.map(({ kind }) => kind)).toEqual(['phone-signing', 'phone-authentication']);
    const san = (pem: string) => openssl('x509', '-in', fileOf(pem), '-noout', '-ext', 'subjectAltName');
    expect(san(pemOf(phone, 'phone-signing'))).toBe(san(pemOf(holder.card, 'card-signing')));
    expect(phone.certificates.map(({ notAfter }) => notAfter)).toEqual(
      holder.card.certificates.map(({ notAfter }) => notAfter),
    );
    expect(openssl('x509', '-in', fileOf(pemOf(phone, 'phone-signing')), '-noout', '-subject')).toContain(
      'L = Shibuya-ku',
    );
    expect(phone.holderId).toBe(holder.holderId);
  });

  it('takes a message that openssl cms signed', async () => {
    const holder = await issueCard(api);
    const parts = await enrolmentParts(api, holder);
    const key = fileOf(holder.cardSigning.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string);
    const out = fileOf('');
    const sign = [
      'cms',
      '-sign',
      '-binary',
      '-nodetach',
      '-cades',
      '-outform',
      'DER',
      '-md',
      'sha256',
      '-econtent_type',
      '1.3.6.1.4.1.32473.8.1',
    ];
    openssl(
      ...sign,
      '-in',
      fileOf(enrolmentContent(parts)),
      '-signer',
      fileOf(pemOf(holder.card, 'card-signing')),
      '-inkey',
      key,
      '-out',
      out,
    );
    const body = { deviceId: parts.device.deviceId, signedEnrolment: base64(readFileSync(out)) };
    expect((await api.post('/phone-certificates', body)).status).toBe(201);
  });

  const enrol = async (
    alter: (parts: Awaited<ReturnType<typeof enrolmentParts>>) => Promise<object> | object,
    defects: Parameters<typeof signEnrolment>[2] = {},
    deviceId?: string,
  ) => {
    const holder = await issueCard(api);
    const parts = await enrolmentParts(api, holder);
    const altered = { ...parts, ...(await alter(parts)) };
    const message = signEnrolment(enrolmentContent(altered), altered, defects);
    return api.post('/phone-certificates', {
      deviceId: deviceId ?? altered.device.deviceId,
      signedEnrolment: base64(message),
    });
  };

  it.each<[string, Parameters<typeof signEnrolment>[2], RegExp]>([
    ['another eContentType', { contentType: '1.2.840.113549.1.7.1' }, /eContentType/],
    ['no contentType attribute', { omitAttribute: oid.contentType }, /contentType/],
    ['no messageDigest', { omitAttribute: oid.messageDigest }, /messageDigest/],
    ['no signingTime', { omitAttribute: oid.signingTime }, /signingTime/],
    ['no signingCertificateV2', { omitAttribute: oid.signingCertificateV2 }, /signingCertificateV2/],
    ['another messageDigest', { messageDigest: new Uint8Array(32) }, /messageDigest/],
    [
      'another certificate in signingCertificateV2',
      { signingCertificate: new Uint8Array(8) },
      /signingCertificateV2/,
    ],
    ['another key', { signingKey: fixtureKey('holder') }, /does not verify/],
  ])('refuses a message with %s', async (_what, defects, detail) => {
    expectProblem(await enrol(() => ({}), defects), 400, 'invalid-signed-request', detail);
  });

  it('refuses a message that is no CMS, or has another device than the request', async () => {
    expectProblem(
      await api.post('/phone-certificates', { deviceId: 'x', signedEnrolment: 'AAAA' }),
      400,
      'invalid-signed-request',
    );
    expectProblem(await enrol(() => ({}), {}, 'another'), 400, 'invalid-signed-request', /deviceId/);
  });

  it('refuses a challenge that was used, invented or another’s', async () => {
    const used = await getChallenge(api);
    const holder = await issueCard(api);
    const parts = { ...(await enrolmentParts(api, holder)), challenge: used };
    const body = {
      deviceId: parts.device.deviceId,
      signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)),
    };
    expect((await api.post('/phone-certificates', body)).status).toBe(201);
    expectProblem(await enrol(() => ({ challenge: used })), 409, 'challenge-not-usable', /used before/);
    expectProblem(
      await enrol(() => ({ challenge: Buffer.alloc(32) })),
      409,
      'challenge-not-usable',
      /not given/,
    );
  });

  it('refuses a challenge after ten minutes', async () => {
    const holder = await issueCard(api);
    const parts = await enrolmentParts(api, holder);
    test.clock.advance(601_000);
    const body = {
      deviceId: parts.device.deviceId,
      signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)),
    };
    expectProblem(await api.post('/phone-certificates', body), 409, 'challenge-not-usable', /expired/);
  });

  it.each(['hold', 'revoke'])('refuses a card certificate after %s', async (action) => {
    const holder = await issueCard(api);
    const parts = await enrolmentParts(api, holder);
    await api.post(`${certificatePath(holder.card, 'card-signing')}/changes`, { action });
    const body = {
      deviceId: parts.device.deviceId,
      signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)),
    };
    expectProblem(await api.post('/phone-certificates', body), 409, 'card-certificate-not-good');
  });

  it('refuses the signature of a phone’s own certificate, or of another CA’s', async () => {
    const holder = await issueCard(api);
    const { phone } = await issuePhone(api, holder);
    expectProblem(
      await enrol(() => ({ cardSigningCertificate: derOf(pemOf(phone, 'phone-signing')) })),
      400,
      'invalid-signed-request',
      /not a card/,
    );
    const foreign = openssl(
      'req',
      '-x509',
      '-new',
      '-key',
      fileOf(fixtureKey('holder').export({ format: 'pem', type: 'pkcs8' }) as string),
      '-subj',
      '/CN=x',
      '-days',
      '1',
    );
    expectProblem(
      await enrol(() => ({ cardSigningCertificate: derOf(foreign) })),
      400,
      'invalid-signed-request',
      /of this CA/,
    );
  });

  it('refuses the card of another holder, and a card certificate that has expired', async () => {
    const [one, other] = [await issueCard(api), await issueCard(api)];
    const swapped = () => ({
      cardSigningCertificate: derOf(pemOf(other.card, 'card-signing')),
      cardSigningKey: one.cardSigning.privateKey,
    });
    expectProblem(await enrol(swapped), 400, 'invalid-signed-request', /does not verify/);
    const parts = await enrolmentParts(api, one);
    const content = enrolmentContent({
      ...parts,
      cardSigningCertificate: derOf(pemOf(other.card, 'card-signing')),
    });
    const body = { deviceId: parts.device.deviceId, signedEnrolment: base64(signEnrolment(content, parts)) };
    expectProblem(
      await api.post('/phone-certificates', body),
      400,
      'invalid-signed-request',
      /cardCertificate/,
    );
    const short = await issueCard(api, {
      cardExpiresOn: dayInJapan(test.clock.wallMs() + 2 * 86_400_000),
    });
    test.clock.advance(4 * 86_400_000);
    const late = await enrolmentParts(api, short);
    const expired = {
      deviceId: late.device.deviceId,
      signedEnrolment: base64(signEnrolment(enrolmentContent(late), late)),
    };
    expectProblem(
      await api.post('/phone-certificates', expired),
      409,
      'card-certificate-not-good',
      /expired/,
    );
  });

  it('reissues signing alone to a phone whose authentication certificate lives on', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'moved', holderId: holder.holderId });
    const cardSigning = await makeChipKey();
    const moved = cardRequest({ signing: cardSigning }, { holderId: holder.holderId, cardId: holder.cardId });
    const card = (await api.post<Issued>('/card-certificates', moved)).body;
    const { authentication: _, ...parts } = await enrolmentParts(
      api,
      { ...holder, card, cardSigning },
      { deviceId },
    );
    const body = { deviceId, signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)) };
    const answer = await api.post<Issued>('/phone-certificates', body);
    expect(answer.body.certificates?.map(({ kind }) => kind)).toEqual(['phone-signing']);
  });

  it.each(['Android', 'ANDROID ', 'symbian', ''])(
    'refuses the platform %j, which is none that quotas know',
    async (platform) => {
      expectProblem(
        await enrol((parts) => ({ device: { ...parts.device, platform } })),
        400,
        'bad-request',
        /platform/,
      );
    },
  );

  it('refuses a second phone of the same platform', async () => {
    const holder = await issueCard(api);
    await issuePhone(api, holder);
    const parts = await enrolmentParts(api, holder, { deviceId: `second-of-${holder.holderId}` });
    const body = {
      deviceId: parts.device.deviceId,
      signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)),
    };
    expectProblem(await api.post('/phone-certificates', body), 409, 'quota-exceeded');
  });
});

describe('revoking', () => {
  it('carries an event from card to phone, with causes, orders and history', async () => {
    const holder = await issueCard(api);
    const { phone, deviceId } = await issuePhone(api, holder);
    const event = { event: 'card-returned', cardId: holder.cardId };
    const plan = await api.post<Changed>('/events', { ...event, dryRun: true });
    expect(plan.body).toMatchObject({ dryRun: true });
    expect(plan.body.changes).toHaveLength(4);
    expect(await stateOf(phone, 'phone-signing')).toMatchObject({ state: 'good' });
    const { body } = await api.post<Changed>('/events', event);
    expect(body.changes.map(({ to }) => to.reason)).toEqual(Array(4).fill('cessationOfOperation'));
    const order = { type: 'remote-deletion', deviceId };
    expect(body.orders).toMatchObject([order, order]);
    for (const kind of ['phone-signing', 'phone-authentication']) {
      expect(await stateOf(phone, kind)).toMatchObject({ state: 'revoked', reason: 'cessationOfOperation' });
    }
    const history = await api.get<{
      entries: { change: string; cause: { event: string }; actor: { role: string; requestId: string } }[];
    }>(`/holders/${holder.holderId}/history`);
    expect(history.body.entries.map(({ change }) => change)).toEqual([
      ...Array(4).fill('issued'),
      ...Array(4).fill('revoked'),
    ]);
    expect(history.body.entries.at(-1)).toMatchObject({
      cause: { event: 'card-returned' },
      actor: { role: 'revoker' },
    });
  });

  it('of one certificate takes the phone certificate that rests on it, and no other', async () => {
    const holder = await issueCard(api);
    const { phone } = await issuePhone(api, holder);
    const path = `${certificatePath(holder.card, 'card-signing')}/changes`;
    const { body } = await api.post<Changed>(path, {
      action: 'revoke',
      reason: 'keyCompromise',
      invalidityDate: '2026-01-01T00:00:00Z',
    });
    // The phone was enrolled with that key: its pair goes with it, and the card's other certificate stays.
    expect(body.changes.map(({ kind }) => kind).sort()).toEqual([
      'card-signing',
      'phone-authentication',
      'phone-signing',
    ]);
    for (const { cause } of body.changes.slice(1))
      expect(cause.cascadedFrom?.serialNumber).toBe(body.changes[0]?.serialNumber);
    expect(await stateOf(phone, 'phone-authentication')).toMatchObject({
      state: 'revoked',
      reason: 'keyCompromise',
    });
    expect(await stateOf(holder.card, 'card-authentication')).toMatchObject({ state: 'good' });
  });

  it('is idempotent, by key and by nature', async () => {
    const holder = await issueCard(api);
    const event = { event: 'card-returned', cardId: holder.cardId };
    const first = await api.post<Changed>('/events', event, `r-${holder.cardId}`);
    const replay = await api.post<Changed>('/events', event, `r-${holder.cardId}`);
    expect(replay.body).toEqual(first.body);
    expect((await api.post<Changed>('/events', event)).body.changes).toEqual([]);
  });

  it('holds a lost phone, and releases its authentication certificate when it is found', async () => {
    const holder = await issueCard(api);
    const { phone, deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'phone-lost', deviceId });
    expect(await stateOf(phone, 'phone-authentication')).toMatchObject({
      state: 'held',
      reason: 'certificateHold',
    });
    await api.post('/events', { event: 'phone-found', deviceId });
    expect(await stateOf(phone, 'phone-authentication')).toMatchObject({ state: 'good' });
    expect(await stateOf(phone, 'phone-signing')).toMatchObject({ state: 'revoked', reason: 'superseded' });
  });

  it('releases nothing whose card is held', async () => {
    const holder = await issueCard(api);
    const { phone, deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    await api.post('/events', { event: 'phone-found', deviceId });
    expect(await stateOf(phone, 'phone-authentication')).toMatchObject({ state: 'held' });
    expectProblem(
      await api.post(`${certificatePath(phone, 'phone-authentication')}/changes`, { action: 'release' }),
      409,
      'illegal-transition',
    );
  });

  it('worsens what is revoked already, when a key has leaked', async () => {
    const holder = await issueCard(api);
    await api.post('/events', { event: 'moved', holderId: holder.holderId });
    await api.post('/events', { event: 'key-leaked', holderId: holder.holderId });
    for (const kind of ['card-signing', 'card-authentication']) {
      expect(await stateOf(holder.card, kind)).toMatchObject({ state: 'revoked', reason: 'keyCompromise' });
    }
  });

  it('is final', async () => {
    const holder = await issueCard(api);
    await api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    const path = `${certificatePath(holder.card, 'card-authentication')}/changes`;
    expectProblem(await api.post(path, { action: 'hold' }), 409, 'illegal-transition');
    expectProblem(await api.post(path, { action: 'release' }), 409, 'illegal-transition');
    expect(await stateOf(holder.card, 'card-authentication')).toMatchObject({ state: 'revoked' });
  });

  it.each<[string, object, number, string]>([
    ['an event that does not exist', { event: 'abducted', holderId: 'x' }, 400, 'bad-request'],
    ['an event without a target', { event: 'died' }, 400, 'bad-request'],
    ['an event with two targets', { event: 'died', holderId: 'x', cardId: 'y' }, 400, 'bad-request'],
    ['an event of something else', { event: 'died', cardId: 'x' }, 400, 'bad-request'],
    ['an unknown holder', { event: 'died', holderId: 'unknown' }, 404, 'not-found'],
    ['an unknown card', { event: 'card-lost', cardId: 'none' }, 404, 'not-found'],
  ])('refuses %s', async (_what, body, status, title) => {
    expectProblem(await api.post('/events', body), status, title);
  });

  it('refuses certificates that were never issued, and those that are not a holder’s', async () => {
    expectProblem(
      await api.post('/certificates/signing-1/01/changes', { action: 'revoke' }),
      404,
      'not-found',
    );
    expectProblem(
      await api.post('/certificates/signing-9/01/changes', { action: 'revoke' }),
      404,
      'not-found',
    );
    const serial = openssl('x509', '-in', fileOf(await caPem()), '-noout', '-serial')
      .trim()
      .split('=')[1]
      ?.toLowerCase();
    expectProblem(
      await api.post(`/certificates/signing-1/${serial}/changes`, { action: 'revoke' }),
      403,
      'forbidden',
    );
  });

  const caPem = async (): Promise<string> => {
    const response = await request(`${test.service.addresses.crl}/ca/signing-1.cer`);
    return openssl(
      'x509',
      '-inform',
      'DER',
      '-in',
      fileOf(new Uint8Array(await response.body.arrayBuffer())),
    );
  };
});

describe('a request that is not of the form it should be', () => {
  it('is told every fault at once, each by a pointer, and nothing that was sent', async () => {
    const answer = await api.post('/card-certificates', {
      ...cardRequest(await pairOf(), { holderId: 'h', cardId: 'c' }),
      holderId: 'not an id: 花子',
      cardExpiresOn: 'soon',
      something: 1,
    });
    expectProblem(answer, 400, 'bad-request');
    const { errors = [] } = answer.body as { errors?: { pointer: string; detail: string }[] };
    expect(errors.map(({ pointer }) => pointer).sort()).toEqual([
      '/cardExpiresOn',
      '/holderId',
      '/something',
    ]);
    expect(errors.map(({ detail }) => detail).join()).toContain('must not have the member something');
    expect(JSON.stringify(answer.body)).not.toMatch(/花子|soon/);
  });

  it.each([
    ['PEM', '-----BEGIN CERTIFICATE REQUEST-----\nTUlJ\n-----END CERTIFICATE REQUEST-----\n', /is PEM/],
    ['base64 in lines', 'TUlJ\nTUlJ\n', /in one line/],
    ['base64url', 'ab-_', /is base64url/],
    ['something else', '§', /must be base64 of DER/],
  ])('with %s where base64 belongs is told which mistake it is', async (_what, wrong, detail) => {
    const body = { deviceId: 'd', signedEnrolment: wrong };
    expectProblem(await api.post('/phone-certificates', body), 400, 'bad-request', detail);
  });

  it('with more faults than twenty is told twenty', async () => {
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`member${i}`, i]));
    const answer = await api.post('/events', { event: 'died', holderId: 'x', ...many });
    expect((answer.body as { errors: object[] }).errors).toHaveLength(20);
  });
});

describe('what the API says of itself', () => {
  it('answers another method of a path with 405 and Allow, and no path with 404', async () => {
    for (const [method, path, allow] of [
      ['DELETE', '/events', 'POST'],
      ['POST', '/holders/some-one', 'GET, HEAD'],
      ['PUT', '/restrictions', 'GET, HEAD, POST'],
    ] as const) {
      const answer = await api.send<Problem>(method, path, undefined, {});
      expectProblem(answer, 405, 'method-not-allowed', new RegExp(allow));
    }
    expectProblem(await api.get('/nothing'), 404, 'not-found');
    expectProblem(await api.get('/holders/a/b/c/d'), 404, 'not-found');
  });

  it('answers a path that is none with a problem, and quotes nothing of it', async () => {
    for (const path of [`/holders/${'x'.repeat(150)}`, '/holders/secret%zz']) {
      const answer = await api.get<Problem>(path);
      expectProblem(answer, 400, 'bad-request', /percent-encoded/);
      expect(JSON.stringify(answer.body)).not.toMatch(/xxx|secret/);
    }
  });

  it('serves its OpenAPI document, whose operations have names of their own, tags, and problems', async () => {
    type Operation = { operationId: string; tags: string[]; responses: Record<string, { content?: object }> };
    const { body } = await api.get<{ paths: Record<string, Record<string, Operation>> }>('/openapi.json');
    expect(body).toEqual(JSON.parse(readFileSync(new URL('../../ca/openapi.json', import.meta.url), 'utf8')));
    const operations = Object.values(body.paths).flatMap((path) => Object.values(path));
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    for (const { operationId, tags, responses } of operations) {
      expect(operationId).toMatch(/^(get|post|put|delete)[A-Za-z]+$/);
      expect(tags).toHaveLength(1);
      expect(Object.keys(responses['4XX']?.content ?? {})).toEqual(['application/problem+json']);
    }
  });

  it('lists every type of problem, with what it means and what to do, as the document does', async () => {
    const { body } = await api.get<{
      problems: { type: string; status: number; meaning: string; act: string }[];
    }>('/problems');
    expect(body.problems.map(({ type }) => type)).toEqual(
      Object.keys(errorStatus).map((code) => `urn:warifu:problem:${code}`),
    );
    const document = readFileSync(new URL('../../docs/API.md', import.meta.url), 'utf8');
    for (const { type, status, meaning, act } of body.problems)
      expect(document).toContain(`| \`${type.split(':').at(-1)}\` | ${status} | ${meaning} | ${act} |`);
  });

  it('logs each refusal with its code and the request id that the caller got, and nothing that was sent', async () => {
    const { body } = await api.post<Problem & { instance: string }>('/events', {
      event: 'died',
      holderId: 'holder-not-there-77',
    });
    const id = body.instance.split(':').at(-1) ?? '';
    const lines = () =>
      test
        .log()
        .split('\n')
        .filter((line) => line.includes(id));
    await expect.poll(() => lines().length).toBeGreaterThan(0);
    expect(JSON.parse(lines().at(-1) ?? '{}')).toMatchObject({
      requestId: id,
      method: 'POST',
      route: '/v1/events',
      status: 404,
      problem: 'not-found',
      msg: 'request',
    });
    expect(test.log()).not.toContain('holder-not-there-77');
  });

  it('tells who speaks plain HTTP at its port that it speaks TLS', async () => {
    const { port } = new URL(test.service.addresses.api);
    const response = await request(`http://127.0.0.1:${port}/v1/health`);
    expect([response.statusCode, await response.body.text()]).toEqual([
      400,
      expect.stringContaining('use https'),
    ]);
  });
});

describe('roles', () => {
  const nil = '00000000-0000-0000-0000-000000000000';
  const newVerifier = { name: 'x', type: 'court', kinds: ['signing'], purposes: [] };
  // Every route, with a body good enough to get past validation.
  const routes: [method: 'GET' | 'POST', path: string, role: string, body: () => Promise<unknown>][] = [
    [
      'POST',
      '/card-certificates',
      'issuer',
      async () => cardRequest(await pairOf(), { holderId: 'roles', cardId: `roles-${crypto.randomUUID()}` }),
    ],
    ['POST', '/card-certificate-batches', 'issuer', async () => ({})],
    ['POST', '/blocked-keys', 'revoker', async () => ({})],
    ['POST', '/phone-challenges', 'issuer', async () => undefined],
    ['POST', '/phone-certificates', 'issuer', async () => ({ deviceId: 'x', signedEnrolment: 'AAAA' })],
    ['POST', '/events', 'revoker', async () => ({ event: 'died', holderId: 'unknown' })],
    ['POST', '/certificates/signing-1/01/changes', 'revoker', async () => ({ action: 'revoke' })],
    ['POST', '/responder-certificates', 'ocsp', async () => ({ authority: 'signing-1', request: 'AAAA' })],
    ['GET', '/feed?cursor=x', 'follower', async () => undefined],
    ['POST', '/feed', 'follower', async () => undefined],
    ['GET', '/feed/snapshot', 'follower', async () => undefined],
    ['GET', '/feed/crls?above=0', 'follower', async () => undefined],
    ['GET', '/feed/crl?path=none', 'follower', async () => undefined],
    ['GET', '/feed/epochs/signing-1/99', 'follower', async () => undefined],
    ['GET', '/certificates/signing-1/01', 'reader', async () => undefined],
    ['GET', '/holders/unknown', 'reader', async () => undefined],
    ['GET', '/holders/unknown/history', 'reader', async () => undefined],
    [
      'POST',
      '/clients',
      'administrator',
      async () => ({ fingerprint: '0'.repeat(64), name: 'x', roles: ['reader'], desks: [] }),
    ],
    ['POST', `/clients/${'1'.repeat(64)}/revocation`, 'administrator', async () => undefined],
    ['POST', `/clients/${'1'.repeat(64)}/binding`, 'administrator', async () => ({})],
    [
      'POST',
      `/clients/${'1'.repeat(64)}/certificates`,
      'administrator',
      async () => ({ request: (await ownKey()).request }),
    ],
    ['POST', `/clients/${'1'.repeat(64)}/confirmation`, 'administrator', async () => undefined],
    ['GET', '/clients', 'administrator, revoker, reader', async () => undefined],
    ['GET', '/clock', 'administrator, reader', async () => undefined],
    ['POST', '/clock/corrections', 'administrator', async () => ({ note: 'x' })],
    ['POST', `/clock/corrections/${nil}/approval`, 'administrator', async () => undefined],
    ['POST', '/client-certificates', [...roles].join(', '), async () => ({ request: 'AAAA' })],
    [
      'POST',
      `/client-certificates/${'0'.repeat(64)}/revocation`,
      [...roles].join(', '),
      async () => undefined,
    ],
    ['POST', '/card-challenges', 'issuer', async () => ({ deskCode: 'DESK00001' })],
    ['GET', '/holders/unknown/media', 'revoker, reader', async () => undefined],
    ['GET', '/proposals?state=proposed', 'administrator, issuer, revoker, reader', async () => undefined],
    ['GET', `/proposals/${nil}`, 'administrator, issuer, revoker, reader', async () => undefined],
    [
      'POST',
      `/proposals/${nil}/approval`,
      'administrator, issuer, revoker, reader',
      async () => ({ planHash: '0'.repeat(64) }),
    ],
    [
      'POST',
      '/proposal-approvals',
      'administrator, issuer, revoker, reader',
      async () => ({ proposals: [{ proposalId: nil, planHash: 'a'.repeat(64) }] }),
    ],
    ['GET', '/holders/unknown/accesses', 'issuer, reader', async () => undefined],
    ['POST', '/exports', 'reader', async () => ({ what: 'renewals', ground: 'statistics' })],
    [
      'POST',
      '/card-orders',
      'issuer',
      async () => ({
        deskCode: 'DESK00001',
        event: 'card-exchanged',
        cards: [{ holderId: 'h', cardId: 'ordered', replacesCardId: 'c' }],
      }),
    ],
    ['POST', `/proposals/${nil}/withdrawal`, 'administrator, issuer, revoker, reader', async () => undefined],
    ['GET', '/configuration', 'administrator', async () => undefined],
    ['POST', '/configuration', 'administrator', async () => ({ edited: '0'.repeat(64) })],
    ['GET', '/desks', 'administrator, reader', async () => undefined],
    ['POST', '/desks', 'administrator', async () => ({ deskCode: 'DESK00009', kind: 'factory' })],
    ['POST', '/desks/unknown/suspension', 'administrator', async () => undefined],
    ['POST', '/desks/unknown/resumption', 'administrator', async () => undefined],
    ['GET', '/verifiers', 'administrator, reader', async () => undefined],
    ['GET', '/verifiers/unknown', 'administrator, reader', async () => undefined],
    ['POST', '/verifiers', 'administrator', async () => newVerifier],
    ['POST', '/verifiers/unknown', 'administrator', async () => newVerifier],
    ['POST', '/verifiers/unknown/suspension', 'administrator', async () => undefined],
    ['POST', '/verifiers/unknown/resumption', 'administrator', async () => undefined],
    ['POST', '/verifiers/unknown/credentials', 'administrator', async () => ({ type: 'port', port: 9 })],
    ['POST', `/verifiers/unknown/credentials/${nil}/end`, 'administrator', async () => ({})],
    ['POST', '/consent-challenges', 'verifier', async () => undefined],
    ['POST', '/consents', 'verifier', async () => ({ signedConsent: 'AAAA' })],
    ['POST', `/consents/${nil}/withdrawal`, 'verifier, revoker, issuer', async () => ({})],
    ['GET', '/holders/unknown/consents', 'reader, issuer', async () => undefined],
    ['POST', '/latest-basic-four', 'verifier', async () => ({ certificate: 'AAAA' })],
    ['POST', '/holders/unknown/withholding', 'revoker', async () => ({ withheld: true })],
    ['GET', '/cards/unknown', 'reader', async () => undefined],
    ['GET', '/phones/unknown', 'reader', async () => undefined],
    ['GET', '/service', 'administrator, reader', async () => undefined],
    ['GET', '/crls', 'administrator, reader', async () => undefined],
    ['GET', '/switches', 'administrator, reader', async () => undefined],
    ['POST', '/switches/release', 'administrator', async () => ({ state: 'open' })],
    ['POST', '/restrictions/preview', 'revoker', async () => ({ platform: 'ios' })],
    ['POST', '/restrictions', 'revoker', async () => ({ match: { platform: 'ios' } })],
    ['POST', `/restrictions/${nil}/end`, 'revoker', async () => ({ action: 'release' })],
    ['GET', '/restrictions', 'revoker, reader', async () => undefined],
    ['GET', `/restrictions/${nil}`, 'revoker, reader', async () => undefined],
    ['POST', `/mass-acts/${nil}/approval`, 'revoker', async () => undefined],
    ['POST', `/mass-acts/${nil}/withdrawal`, 'revoker', async () => undefined],
    ['POST', '/phone-revocations', 'issuer', async () => ({ signedRevocation: 'AAAA' })],
    ['GET', '/certificates/signing-1/01/history', 'reader', async () => undefined],
    ['GET', '/renewals?days=90', 'reader', async () => undefined],
    ['GET', '/outbox?state=dead', 'administrator, reader', async () => undefined],
    ['POST', `/outbox/${nil}/replay`, 'administrator', async () => undefined],
    ['POST', `/orders/${nil}/confirmation`, 'tsm', async () => undefined],
    ['POST', '/holders/unknown/corrections', 'revoker', async () => ({ note: 'x' })],
    ['GET', '/holders/unknown/corrections', 'revoker, reader', async () => undefined],
    ['POST', `/corrections/${nil}/approval`, 'revoker', async () => undefined],
    ['POST', `/corrections/${nil}/withdrawal`, 'revoker', async () => undefined],
    [
      'POST',
      '/enrolment-codes',
      'issuer',
      async () => ({ holderId: 'unknown', cardId: 'none', deskCode: 'DESK00001' }),
    ],
    ['POST', `/issuances/${nil}/storage`, 'tsm', async () => ({ stored: true })],
    ['POST', '/phone-reports', 'issuer', async () => ({ signedReport: 'AAAA' })],
    ['POST', '/holders/unknown/notices', 'issuer', async () => ({ signedWishes: 'AAAA' })],
    ['POST', '/holders/unknown/notices/confirmation', 'issuer', async () => ({ code: '00000000' })],
    ['GET', '/certificates?adopted', 'administrator, revoker, reader', async () => undefined],
    [
      'POST',
      '/certificates/signing-1/01/holder',
      'administrator',
      async () => ({ holderId: 'unknown', cardId: 'none', certificate: 'AAAA' }),
    ],
    ['POST', '/certificates/signing-1/01/watches', 'verifier', async () => ({ receipt: 'AAAA' })],
    ['POST', '/certificates/signing-1/01/watches/end', 'verifier', async () => undefined],
    ['POST', '/watches', 'verifier', async () => ({ watches: [{ receipt: 'AAAA' }] })],
    ['GET', '/watches', 'verifier', async () => undefined],
    ['POST', '/verifier-notices', 'verifier', async () => ({})],
    ['POST', '/watch-intakes', 'verifier', async () => ({ statement: 'A Bank: accounts' })],
    [
      'POST',
      `/watch-intakes/${nil}/entries`,
      'verifier',
      async () => ({ entries: [{ authority: 'signing-1', serialNumber: '01' }] }),
    ],
    ['POST', `/watch-intakes/${nil}/sample`, 'verifier', async () => undefined],
    ['POST', `/watch-intakes/${nil}/signatures`, 'verifier', async () => ({ signatures: ['AAAA'] })],
    ['GET', '/watch-intakes', 'administrator, verifier', async () => undefined],
    ['GET', `/watch-intakes/${nil}`, 'administrator, verifier', async () => undefined],
    ['POST', `/watch-intakes/${nil}/acceptance`, 'administrator', async () => undefined],
    ['POST', `/watch-intakes/${nil}/end`, 'administrator, verifier', async () => undefined],
    ['POST', '/certificate-links', 'verifier', async () => ({ receipt: 'AAAA', link: 'pair' })],
    ['POST', '/certificates/signing-1/01/uses', 'verifier', async () => undefined],
  ];
  const clients = new Map<string, CaClient>();
  const call = async (client: CaClient, [method, path, , body]: (typeof routes)[number]) =>
    method === 'GET' ? client.get(path) : client.post(path, await body());

  beforeAll(async () => {
    for (const role of roles) {
      clients.set(
        role,
        (await addClient(test, role, { roles: [role], desks: ['DESK00001', 'ONLINE001'] })).client,
      );
    }
  });
  afterAll(async () => {
    for (const client of clients.values()) await client.close();
  });

  it('are the ones that the routes of the API name', async () => {
    const { paths } = JSON.parse(await openApiDocument()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{[^}]+\}/g, '*')}`),
    );
    const tested = routes.map(
      ([method, path]) =>
        `${method} /v1${path
          .replace(/\?.*/, '')
          .replace(/switches\/release/, 'switches/*')
          .replace(nil, '*')
          .replace(/signing-1\/(01|99)/, '*/*')
          .replace(/unknown|[01]{64}/, '*')}`,
    );
    const forAll = ['health', 'caller', 'openapi.json', 'problems'].map((name) => `GET /v1/${name}`);
    expect([...tested, ...forAll].sort()).toEqual(documented.sort());
  });

  it.each(routes)('%s %s is for the role %s and no other', async (...route) => {
    for (const [role, client] of clients) {
      const answer = await call(client, route);
      if (route[2].split(', ').includes(role)) expect([401, 403]).not.toContain(answer.status);
      else expectProblem(answer, 403, 'forbidden', new RegExp(route[2].replaceAll(', ', ' or ')));
    }
  });

  it('tie an issuer to its desks', async () => {
    const issuer = clients.get('issuer') as CaClient;
    const body = cardRequest(await pairOf(), { holderId: 'desk', cardId: 'desk', deskCode: 'DESK00002' });
    expectProblem(await issuer.post('/card-certificates', body), 403, 'desk-not-allowed');
  });

  it.each<[string, object]>([
    ['/phone-challenges', {}],
    ['/phone-certificates', { deviceId: 'device', signedEnrolment: 'AAAA' }],
    ['/phone-reports', { signedReport: 'AAAA' }],
    ['/phone-revocations', { signedRevocation: 'AAAA' }],
    ['/holders/unknown/notices', { signedWishes: 'AAAA' }],
    ['/holders/unknown/notices/confirmation', { code: '00000000' }],
  ])('let no counter act for the online desk: POST %s', async (path, body) => {
    const { client } = await addClient(test, `counter${path.replaceAll('/', '-')}`.slice(0, 32), {
      roles: ['issuer'],
      desks: ['DESK00001'],
    });
    expectProblem(await client.post(path, body), 403, 'desk-not-allowed');
    await client.close();
  });

  it('are lost with the next request when a client is shut out, and a certificate without a role gets nothing', async () => {
    const { client, fingerprint } = await addClient(test, 'shut-out', { roles: ['reader'] });
    expect((await client.get('/health')).status).toBe(200);
    expect((await api.post(`/clients/${fingerprint}/revocation`, undefined)).status).toBe(200);
    expectProblem(await client.get('/health'), 401, 'unauthenticated');
    expectProblem(await client.get('/no-such-thing'), 401, 'unauthenticated');
    await client.close();
  });

  it('keep one client’s idempotency keys apart from another’s', async () => {
    const issuer = clients.get('issuer') as CaClient;
    const one = await api.post<{ challenge: string }>('/phone-challenges', undefined, 'shared-key');
    const other = await issuer.post<{ challenge: string }>('/phone-challenges', undefined, 'shared-key');
    expect(one.body.challenge).not.toBe(other.body.challenge);
  });
});

it('does not wait for a body that does not come', async () => {
  const { hostname, port } = new URL(test.service.addresses.api);
  const [key, cert] = ['key', 'pem'].map((end) => readFileSync(`${test.folder}/clients/first.${end}`));
  const ca = readFileSync(`${test.folder}/tls/operations-ca.pem`);
  const said = await new Promise<string>((resolve) => {
    let text = '';
    const socket = connect({ host: hostname, port: Number(port), ca, key, cert });
    socket.on('data', (data) => {
      text += String(data);
    });
    socket.on('close', () => resolve(text));
    socket.on('error', () => resolve(text));
    const head = [
      'POST /v1/events HTTP/1.1',
      'Host: x',
      'Content-Type: application/json',
      'Idempotency-Key: slow',
      'Content-Length: 100',
    ];
    socket.write(`${head.join('\r\n')}\r\n\r\n{"event`);
  });
  expect(said).toMatch(/^HTTP\/1.1 408|^$/);
  expectProblem(await api.post('/events', { event: 'died', holderId: 'unknown' }, 'slow'), 404, 'not-found');
});

it('says not-found, as a problem, for what there is not', async () => {
  expectProblem(await api.get('/nothing'), 404, 'not-found');
  expectProblem(await api.get('/holders/unknown'), 404, 'not-found');
});

it('writes no name, address or path of a holder to its log', async () => {
  await issueCard(api);
  expect(test.log()).toContain('/v1/card-certificates');
  for (const secret of ['花子', '渋谷', 'holder-']) expect(test.log()).not.toContain(secret);
});

it('matches the OpenAPI documents that are checked in, also that for verifiers', async () => {
  const checkedIn = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
  expect(await openApiDocument()).toBe(checkedIn('ca/openapi.json'));
  expect(await verifierDocument()).toBe(checkedIn('core/verifier/openapi.json'));
});

it('gives verifiers a document of what they may ask, and of nothing else', async () => {
  const { paths } = JSON.parse(await verifierDocument()) as { paths: Record<string, object> };
  const routes = (await describedRoutes()).filter(({ roles }) => roles.includes('verifier'));
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const ofApi = described.filter((route) => route.includes(' /v1/')).map((route) => route.replace('/v1', ''));
  expect(ofApi.sort()).toEqual(routes.map(({ route }) => route).sort());
  expect(Object.keys(paths)).toContain('/v/{token}');
});
