import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import {
  askOcsp,
  cardRequest,
  derOf,
  fetchCrl,
  makeChipKey,
  ocspRequest,
  pemOf,
  until,
} from '../support/actors.ts';
import {
  addClient,
  fileOf,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
  takeTimeBack,
} from '../support/harness.ts';

interface Certified {
  readonly certificate: string;
  readonly serialNumber: string;
}

let test: TestService;
let node: CaClient;

beforeAll(async () => {
  test = await startTestService({ overrides: { limits: { responderCertificatesPerDay: 6 } } });
  ({ client: node } = await addClient(test, 'node', { roles: ['ocsp'], authorities: ['signing-1'] }));
});
afterAll(async () => {
  await node.close();
  await test.close();
  removeScratch();
});

/** A new key's PKCS#10 request, base64. */
function requestOf(curve: string): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: curve });
  const key = fileOf(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
  return openssl(
    'req',
    '-new',
    curve === 'P-384' ? '-sha384' : '-sha256',
    '-key',
    key,
    '-subj',
    '/CN=x',
  ).replace(/-----[A-Z ]+-----|\n/g, '');
}

const certify = (client: CaClient, authority: string, curve = 'P-256') =>
  client.post<Issued>('/responder-certificates', { authority, request: requestOf(curve) });

async function certified(client: CaClient, authority = 'signing-1', curve = 'P-256'): Promise<Certified> {
  const { status, body } = await certify(client, authority, curve);
  expect(status, JSON.stringify(body)).toBe(201);
  const [first] = body.certificates;
  if (!first) throw new Error('no certificate');
  return first;
}

const stateOf = async ({ serialNumber }: Certified, authority = 'signing-1'): Promise<string> => {
  const { body } = await test.api.get<{ status: { state: string; reason: string | null } }>(
    `/certificates/${authority}/${serialNumber}`,
  );
  return [body.status.state, body.status.reason ?? []].flat().join(' ');
};

describe('the role ocsp', () => {
  it('gets certificates of the authorities it is bound to, and of no other', async () => {
    await certified(node);
    expect(await certify(node, 'authentication-1')).toMatchObject({
      status: 403,
      body: { detail: expect.stringContaining('does not answer for authentication-1') },
    });
  });

  it('is bound to the authorities there are, where none are named', async () => {
    const { client, fingerprint } = await addClient(test, 'all-of-today', { roles: ['ocsp'] });
    await certified(client);
    await certified(client, 'authentication-1');
    await client.close();
    const again = await test.api.post(`/clients/${fingerprint}/revocation`, undefined);
    expect(again.body).toMatchObject({ roles: ['ocsp'], authorities: ['authentication-1', 'signing-1'] });
  });

  it.each([
    [{ roles: ['ocsp'], authorities: ['signing-9'] }, 'there is no signing-9'],
    [{ roles: ['reader'], authorities: ['signing-1'] }, 'belongs to the role ocsp'],
    [{ roles: ['ocsp'], authorities: [] }, 'authorities'],
    [{ roles: ['ocsp:signing-1'] }, 'roles'],
  ])('cannot be bound by %j', async (binding, why) => {
    const body = { fingerprint: 'e'.repeat(64), name: 'x', desks: [], ...binding };
    expect(await test.api.post('/clients', body)).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining(why) },
    });
  });
});

describe('a responder’s certificate', () => {
  it('lives seven days unless configured otherwise', async () => {
    const { certificate } = await certified(node, 'signing-1', 'P-384');
    const { validFromDate, validToDate } = new X509Certificate(certificate);
    const days = (validToDate.getTime() - validFromDate.getTime()) / 86_400_000;
    expect(days).toBeGreaterThan(6.99);
    expect(days).toBeLessThan(7.01);
  });

  it('stays good for an hour after its successor is issued; what came before ends at once', async () => {
    const { client } = await addClient(test, 'renewing', { roles: ['ocsp'] });
    const [first, second] = [await certified(client), await certified(client)];
    const other = await certified(client, 'authentication-1');
    const ofAnotherSuite = await certified(client, 'signing-1', 'P-384');
    expect(await stateOf(first)).toBe('good');
    const third = await certified(client);
    expect(await stateOf(first)).toBe('revoked superseded');
    expect(await stateOf(second)).toBe('good');
    test.clock.advance(3_601_000);
    await until('its hour is over', async () => (await stateOf(second)) === 'revoked superseded');
    expect(await stateOf(third)).toBe('good');
    expect(await stateOf(other, 'authentication-1')).toBe('good');
    expect(await stateOf(ofAnotherSuite)).toBe('good');
    await client.close();
  });

  it('is one of so many in 24 hours: one more is refused, and an alarm', async () => {
    const { client } = await addClient(test, 'greedy', { roles: ['ocsp'] });
    for (let count = 0; count < 6; count += 1) await certified(client);
    expect(await certify(client, 'signing-1')).toMatchObject({
      status: 409,
      body: { detail: expect.stringContaining('6 responder certificates for signing-1') },
    });
    expect(test.log()).toContain('ALARM: this client has had 6 responder certificates');
    await certified(client, 'authentication-1');
    test.clock.advance(86_400_000);
    await certified(client);
    await client.close();
  });

  it('can be revoked, not held; a CA’s own certificate neither', async () => {
    const responder = await certified(node);
    const change = (path: string, body: object) =>
      test.api.post(`/certificates/signing-1/${path}/changes`, body);
    expect(await change(responder.serialNumber, { action: 'hold' })).toMatchObject({ status: 403 });
    const revoke = { action: 'revoke', reason: 'keyCompromise' };
    expect(await change(responder.serialNumber, revoke)).toMatchObject({ status: 200 });
    expect(await stateOf(responder)).toBe('revoked keyCompromise');
    const ca = new X509Certificate(await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`));
    expect(await change(ca.serialNumber.toLowerCase(), revoke)).toMatchObject({ status: 403 });
  });
});

describe('a clock that jumps forward and is put right', () => {
  it('is an alarm and shows in health; no delegation, answer or count of the days to come stays', async () => {
    const other = await startTestService({ overrides: { limits: { responderCertificatesPerDay: 4 } } });
    const { client } = await addClient(other, 'jumping', { roles: ['ocsp'] });
    const holder = await issueCard(other.api);
    const issuer = await fetchCrl(`${other.service.addresses.crl}/ca/signing-1.cer`);
    const query = await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), issuer);
    const answer = async (): Promise<string> => {
      const response = await askOcsp(other.service.addresses.ocsp, query);
      if (response.length === 5) return '';
      return openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
    };
    const month = (text: string) => /This Update: (\w+)/.exec(text)?.[1];
    const moment = (text: string) => Date.parse(/This Update: (.*)/.exec(text)?.[1] ?? '');
    const now = month(await answer());
    other.clock.advance(30 * 86_400_000);
    await until('answers are of that time', async () => ![now, undefined].includes(month(await answer())));
    for (let count = 0; count < 4; count += 1) await certified(client);
    const last = moment(await answer());
    other.clock.step(-30 * 86_400_000);
    await until('there is an alarm', async () =>
      other.log().includes('ALARM: the clock cannot be relied on'),
    );
    expect(await other.api.get('/health')).toMatchObject({
      status: 503,
      body: { title: 'clock-unreliable' },
    });
    // Until two people have said that the time on record is wrong, no answer is dated before the one before.
    expect(moment(await answer())).toBeGreaterThanOrEqual(last);
    await takeTimeBack(other);
    await until('delegations are of now', async () => {
      const text = readFileSync(join(other.folder, 'ocsp', 'responders.json'), 'utf8');
      const rows = JSON.parse(text) as { certificate: string }[];
      const starts = rows.map(({ certificate }) => new X509Certificate(Buffer.from(certificate, 'base64')));
      return starts.every(({ validFromDate }) => validFromDate.getTime() <= Date.now());
    });
    await until('answers are of now', async () => month(await answer()) === now);
    expect(await other.api.get('/health')).toMatchObject({ status: 200 });
    await certified(client);
    await client.close();
    await other.close();
  }, 60_000);
});

it('of repetitions at one time one is certified, and the others get 409', async () => {
  const { client } = await addClient(test, 'hasty', { roles: ['ocsp'] });
  const body = { authority: 'signing-1', request: requestOf('P-256') };
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => client.post<Issued>('/responder-certificates', body, 'the-same-key')),
  );
  const titles = answers.map(({ status, body: said }) =>
    status === 201 ? 'certified' : (said as unknown as { title: string }).title,
  );
  expect(titles).toContain('certified');
  expect(titles.filter((title) => !['certified', 'request-in-progress'].includes(title))).toEqual([]);
  await client.close();
});

describe('blocking a key', () => {
  const block = (der: Uint8Array) =>
    test.api.post<{ changes: { kind: string; to: { state: string } }[] }>('/blocked-keys', {
      publicKey: Buffer.from(der).toString('base64'),
    });
  const spkiOf = (certificate: string | Uint8Array): Uint8Array =>
    new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });

  it('ends the responder certificate that it is in', async () => {
    const responder = await certified(node, 'signing-1', 'P-384');
    const { body } = await block(spkiOf(responder.certificate));
    expect(body.changes).toMatchObject([{ kind: 'ocsp-responder', to: { state: 'revoked' } }]);
  });

  it('is done also for a CA’s own, whose certificate it leaves to a ceremony', async () => {
    const ca = await fetchCrl(`${test.service.addresses.crl}/ca/authentication-1.cer`);
    expect(await block(spkiOf(ca))).toMatchObject({ status: 200, body: { changes: [] } });
  });

  it('has the service replace a responder key of its own, and answer on', async () => {
    const holder = await issueCard(test.api);
    const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    const answer = async (): Promise<Uint8Array> => {
      const query = await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), issuer);
      return askOcsp(test.service.addresses.ocsp, query);
    };
    const signer = async (): Promise<string> => {
      const response = await answer();
      // Without a signature where it says tryLater: the clock has been moved.
      if (response.length === 5) return '';
      const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
      return /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(text)?.[0] ?? '';
    };
    let before = '';
    await until('it answers', async () => {
      before = await signer();
      return before !== '';
    });
    await block(spkiOf(before));
    await until('another key answers', async () => !['', before].includes(await signer()), 25_000);
  });
});

describe('the online desk', () => {
  it('issues to no card, neither alone nor in a batch', async () => {
    const { client } = await addClient(test, 'online', { roles: ['issuer'], desks: ['*'] });
    await expect(issueCard(client, { deskCode: 'ONLINE001' })).rejects.toThrow('desk-not-allowed');
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const card = cardRequest(keys, { holderId: 'online', cardId: 'online', deskCode: 'ONLINE001' });
    const line = Buffer.from(`${JSON.stringify({ idempotencyKey: 'online', card })}\n`);
    for await (const answer of client.batch([line]))
      expect(JSON.parse(String(answer))).toMatchObject({
        status: 403,
        problem: { title: 'desk-not-allowed' },
      });
    expect(await test.api.get('/holders/online')).toMatchObject({ status: 404 });
    await client.close();
  });
});
