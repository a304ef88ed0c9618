import { spawnSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CaClient } from '../../ca/client/client.ts';
import { suites } from '../../core/asn1/algorithms.ts';
import { context, integer, sequence, tlv } from '../../core/asn1/der-writer.ts';
import { encodeName } from '../../core/asn1/name.ts';
import { sealSigned } from '../../core/asn1/signed-data.ts';
import { addClient, openssl, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { dayMs, expectRefusal } from '../support/holder-rules.ts';

// No client is locked out: certificates are renewed by those who have them, bindings are extended by administrators, and where
// none is left one is bound at the console.

let test: TestService;
beforeAll(async () => {
  test = await startTestService();
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Shown {
  fingerprint: string;
  name: string;
  roles: string[];
  endsAt: string | null;
  bindingEndsAt: string | null;
  certificateEndsAt: string | null;
  lastUsedAt: string | null;
  renews: string | null;
  renewedBy: string | null;
  unconfirmedSince: string | null;
  certificate: string;
}

/** A key that a client makes for itself, and its request. */
function newKey(): { key: string; request: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const info = sequence(
    integer(0),
    encodeName([]),
    publicKey.export({ format: 'der', type: 'spki' }),
    tlv(context(0)),
  );
  const der = sealSigned(info, suites['p256-sha256'], sign('sha256', info, privateKey));
  return {
    key: String(privateKey.export({ format: 'pem', type: 'pkcs8' })),
    request: Buffer.from(der).toString('base64'),
  };
}

const through = (key: string, cert: string): CaClient =>
  new CaClient({
    address: test.service.addresses.api,
    key,
    cert,
    ca: readFileSync(join(test.folder, 'tls', 'operations-ca.pem'), 'utf8'),
  });

const listed = async (fingerprint: string): Promise<Shown | undefined> =>
  (await test.api.get<{ clients: Shown[] }>('/clients')).body.clients.find(
    (client) => client.fingerprint === fingerprint,
  );

describe('a client certificate', () => {
  it('is renewed under itself: its key never travels, the old one ends a day later, the binding ends as before', async () => {
    const { client, fingerprint } = await addClient(test, 'desk', {
      roles: ['issuer'],
      desks: ['DESK00001'],
    });
    const { key, request } = newKey();
    const answer = await client.post<Shown>('/client-certificates', { request }, 'renewal-1');
    expect(answer).toMatchObject({
      status: 201,
      body: { name: 'desk', roles: ['issuer'], renews: fingerprint },
    });
    const again = await client.post<Shown>('/client-certificates', { request }, 'renewal-1');
    expect(again).toMatchObject({ replayed: true, body: answer.body });
    const { certificate } = answer.body;
    const file = join(test.folder, 'renewed.pem');
    (await import('node:fs')).writeFileSync(file, certificate);
    const ca = join(test.folder, 'tls', 'operations-ca.pem');
    expect(openssl('verify', '-CAfile', ca, '-purpose', 'sslclient', file)).toContain('OK');
    const renewed = through(key, certificate);
    expect((await renewed.get('/health')).status).toBe(200);
    expect((await client.get('/health')).status).toBe(200);
    const before = await listed(fingerprint);
    expect(before?.renewedBy).toBe(answer.body.fingerprint);
    expect(answer.body.bindingEndsAt).toBe(before?.bindingEndsAt);
    // Once: the old certificate gets no second successor.
    expectRefusal(
      await client.post('/client-certificates', { request: newKey().request }),
      409,
      'illegal-transition',
      /renewed already/,
    );
    test.clock.advance(dayMs + 1000);
    expectRefusal(await client.get('/health'), 401, 'unauthenticated', /was renewed, and has ended/);
    expect((await renewed.get('/health')).status).toBe(200);
    await renewed.close();
    await client.close();
  });

  it('is made once for a request whose process died between signing and binding it', async () => {
    const { client } = await addClient(test, 'unlucky', { roles: ['reader'] });
    const { request } = newKey();
    const { clients } = test.service.ca;
    const renew = clients.renew.bind(clients);
    Object.assign(clients, { renew: () => Promise.reject(new Error('the process died')) });
    expect((await client.post('/client-certificates', { request }, 'unlucky')).status).toBe(500);
    Object.assign(clients, { renew });
    const answer = await client.post<Shown>('/client-certificates', { request }, 'unlucky');
    expect(answer).toMatchObject({ status: 201, body: { name: 'unlucky' } });
    // Bound now: the key is certified no more.
    const again = await test.api.post<Shown>('/client-certificates', { request });
    expectRefusal(again, 409, 'already-certified');
    await client.close();
  });

  it('is not made for a key that was certified before, nor for one that is not proven', async () => {
    const { client } = await addClient(test, 'desk-2', { roles: ['reader'] });
    const own = createPrivateKey(readFileSync(join(test.folder, 'clients', 'desk-2.key')));
    expect(own.asymmetricKeyType).toBe('ec');
    const { request } = newKey();
    expect((await client.post('/client-certificates', { request })).status).toBe(201);
    const { client: other } = await addClient(test, 'desk-3', { roles: ['reader'] });
    expectRefusal(await other.post('/client-certificates', { request }), 409, 'already-certified');
    const broken = Buffer.from(newKey().request, 'base64');
    broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1;
    const forged = await other.post('/client-certificates', { request: broken.toString('base64') });
    expectRefusal(forged, 400, 'invalid-proof-of-possession');
    await Promise.all([client.close(), other.close()]);
  });

  it('is on record before it is signed, and complete with its signature', async () => {
    const database = new DatabaseSync(join(test.folder, 'record.db'), { readOnly: true });
    const rows = database
      .prepare('SELECT kind, commonName, signature, fingerprint FROM operationsCertificate')
      .all() as { kind: string; commonName: string; signature: Uint8Array | null; fingerprint: string }[];
    database.close();
    const kinds = new Set(rows.map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual(['operations-authority', 'tls-client', 'tls-server']);
    for (const { signature } of rows) expect(signature).not.toBeNull();
    const first = new X509Certificate(readFileSync(join(test.folder, 'clients', 'first.pem')));
    const fingerprint = first.fingerprint256.replaceAll(':', '').toLowerCase();
    expect(rows.map((row) => row.fingerprint)).toContain(fingerprint);
  });
});

describe('a binding', () => {
  it('ends after a year, whatever certificates were renewed, and an administrator extends it', async () => {
    const service = await startTestService({ overrides: { limits: { clientBinding: '30d' } } });
    try {
      const { client, fingerprint } = await addClient(service, 'desk', { roles: ['reader'] });
      service.clock.advance(31 * dayMs);
      expectRefusal(await client.get('/health'), 401, 'unauthenticated', /binding .* has ended/);
      const refused = await client.post('/client-certificates', { request: newKey().request });
      expectRefusal(refused, 401, 'unauthenticated');
      // The first client's binding is as old.
      expectRefusal(await service.api.get('/clients'), 401, 'unauthenticated', /administrator extends/);
      expect(fingerprint).toHaveLength(64);
      await client.close();
    } finally {
      await service.close();
    }
  });

  it('is changed by an administrator alone: roles, desks, end', async () => {
    const { client, fingerprint } = await addClient(test, 'changing', { roles: ['reader'] });
    expectRefusal(await client.get('/switches/x'), 405, 'method-not-allowed');
    const path = `/clients/${fingerprint}/binding`;
    expectRefusal(await client.post(path, { roles: ['administrator'] }), 403, 'forbidden');
    const before = await listed(fingerprint);
    test.clock.advance(dayMs);
    const changed = await test.api.post<Shown>(path, { roles: ['revoker', 'reader'] });
    expect(changed).toMatchObject({ status: 200, body: { roles: ['revoker', 'reader'] } });
    expect(Date.parse(changed.body.bindingEndsAt ?? '')).toBeGreaterThan(
      Date.parse(before?.bindingEndsAt ?? ''),
    );
    expect((await client.get('/clients')).status).toBe(200);
    expectRefusal(await test.api.post(`/clients/${'0'.repeat(64)}/binding`, {}), 404, 'not-found');
    await client.close();
  });

  it('is not widened again by an extension at the same moment, and is that of all certificates of a client', async () => {
    const { client, fingerprint } = await addClient(test, 'narrowed', { roles: ['reader', 'issuer'] });
    const { body } = await client.post<Shown>('/client-certificates', { request: newKey().request });
    const path = `/clients/${fingerprint}/binding`;
    for (let n = 0; n < 3; n += 1) {
      await test.api.post(path, { roles: ['reader', 'issuer'] });
      await Promise.all([test.api.post(path, { roles: ['reader'] }), test.api.post(path, {})]);
      for (const each of [fingerprint, body.fingerprint])
        expect((await listed(each))?.roles).toEqual(['reader']);
    }
    await client.close();
  });

  it('is listed with its ends and its last use', async () => {
    const { client, fingerprint } = await addClient(test, 'listed', { roles: ['reader'] });
    await client.get('/health');
    await test.service.ca.uses.write();
    const shown = await listed(fingerprint);
    expect(shown?.lastUsedAt).not.toBeNull();
    expect(Date.parse(shown?.certificateEndsAt ?? '') - test.clock.wallMs()).toBeLessThan(3651 * dayMs);
    expect(Date.parse(shown?.bindingEndsAt ?? '') - test.clock.wallMs()).toBeGreaterThan(364 * dayMs);
    await client.close();
  });
});

describe('at the console', () => {
  const main = new URL('../../ca/main.ts', import.meta.url).pathname;
  const bind = (folder: string, fingerprint: string, pin: string, ...more: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [main, 'bind', fingerprint, '--data', folder, ...more],
      { encoding: 'utf8', input: `${pin}\n` },
    );
    return { status, output: stdout + stderr };
  };

  it('an administrator is bound only where none can act, with the ceremony’s PIN, and alarmed until another confirms', async () => {
    const service = await startTestService();
    const { folder } = service;
    const { client, fingerprint } = await addClient(service, 'rescue', { roles: ['reader'] });
    const main2 = spawnSync(process.execPath, [main, 'client', 'helper', '--data', folder], {
      encoding: 'utf8',
    });
    const helper = /fingerprint ([0-9a-f]{64})/.exec(main2.stdout)?.[1] ?? '';
    const label = (
      JSON.parse(readFileSync(join(folder, 'warifu.json'), 'utf8')) as {
        pkcs11: { caToken: { label: string } };
      }
    ).pkcs11.caToken.label;
    expect(label).toMatch(/^ca-/);
    const pin = readFileSync(join(folder, 'secrets', 'warifu-ca.pin'), 'utf8').trim();
    expect(bind(folder, helper, pin)).toMatchObject({ status: 1, output: expect.stringMatching(/can act/) });
    // The only administrator shuts itself out.
    const { body } = await service.api.get<{ clients: Shown[] }>('/clients');
    const first = body.clients.find(({ name }) => name === 'first client')?.fingerprint ?? '';
    expect((await service.api.post(`/clients/${first}/revocation`, undefined)).status).toBe(200);
    const wrong = bind(folder, helper, 'not the pin');
    expect(wrong).toMatchObject({ status: 1, output: expect.stringMatching(/not the PIN/) });
    expect(wrong.output).not.toContain('not the pin');
    expect(bind(folder, 'abc', pin)).toMatchObject({
      status: 1,
      output: expect.stringMatching(/64 hex digits/),
    });
    expect(bind(folder, helper, pin, '--roles', 'king')).toMatchObject({
      status: 1,
      output: expect.stringMatching(/no role king/),
    });
    expect(bind(folder, helper, pin)).toMatchObject({ status: 0 });
    await service.close();
    await client.close();
    const again = await startTestService({ folder });
    try {
      expect(again.log()).toMatch(/ALARM: an administrator was bound at the console/);
      const { namedClient } = await import('../support/actors.ts');
      const rescued = namedClient(folder, again.service.addresses.api, 'helper');
      const confirm = (of: CaClient) => of.post<Shown>(`/clients/${helper}/confirmation`, undefined);
      expectRefusal(await confirm(rescued), 403, 'forbidden', /by another/);
      // It can do its work: it binds another administrator, who confirms it.
      const other = await rescued.post<Shown>(`/clients/${fingerprint}/binding`, {
        roles: ['administrator'],
      });
      expect(other).toMatchObject({ status: 200 });
      const second = namedClient(folder, again.service.addresses.api, 'rescue');
      expect(await confirm(second)).toMatchObject({ status: 200, body: { unconfirmedSince: null } });
      expectRefusal(await confirm(second), 409, 'illegal-transition');
      await Promise.all([rescued.close(), second.close()]);
    } finally {
      await again.close();
    }
  });
});
