import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeUp } from '../core/config/reload.ts';
import { digest, hex } from '../core/runtime/bytes.ts';
import { cardRequest, fetchCrl, makeChipKey, namedClient } from './support/actors.ts';
import {
  freePort,
  issueCard,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from './support/harness.ts';
import { configure, startProcess } from './support/service-process.ts';
import { recordVerifier } from './support/verifiers.ts';

// What changes without a restart, and what does not; the log says which.

afterAll(removeScratch);

/** A key and a certificate of it for 127.0.0.1, PEM, in the place of what was there. */
function renew(folder: string): void {
  const [key, cert] = [join(folder, 'ocsp.key'), join(folder, 'ocsp.pem')];
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...ec, '-keyout', key, '-out', cert, '-subj', '/CN=ocsp', '-days', '9');
  chmodSync(key, 0o600);
}

/** SHA-256 of the certificate that a port shows. */
const shownAt = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? '');
      socket.destroy();
    });
    socket.on('error', reject);
  });

describe('a configuration that is read again', () => {
  let test: TestService;
  let tlsPort: number;
  const configFile = () => join(test.folder, 'warifu.json');
  const change = (edit: (config: Record<string, Record<string, unknown>>) => void): void => {
    const config = JSON.parse(readFileSync(configFile(), 'utf8')) as Record<string, Record<string, unknown>>;
    edit(config);
    writeFileSync(configFile(), JSON.stringify(config));
  };
  const lastLine = () =>
    JSON.parse(
      test
        .log()
        .split('\n')
        .findLast((line) => line.includes('read again')) ?? '{}',
    ) as { takenUp: string[]; afterRestart: string[]; reason?: string; read: string[] };
  beforeAll(async () => {
    tlsPort = await freePort();
    const tls = { port: tlsPort, key: 'ocsp.key', cert: 'ocsp.pem', ca: 'ocsp.pem' };
    test = await startTestService();
    const { folder } = test;
    await test.close();
    renew(folder);
    change((config) => {
      config.ocsp = { ...config.ocsp, verifiers: { tls } };
    });
    test = await startTestService({ folder });
  });
  afterAll(async () => {
    await test.close();
  });

  it('changes limits and municipalities, in the open', async () => {
    const { holderId } = await issueCard(test.api);
    const second = async () =>
      test.api.post<{ detail?: string }>(
        '/card-certificates',
        cardRequest(
          { signing: await makeChipKey(), authentication: await makeChipKey() },
          { holderId, cardId: 'another' },
        ),
      );
    expect((await second()).status).toBe(409);
    const elsewhere = () => issueCard(test.api, { municipalityCode: '47201' });
    const towns = test.service.ca.config.municipalities.filter(({ code }) => code !== '47201');
    change((config) => {
      config.limits = { ...config.limits, cards: 2, requestBytesMax: 70_000 };
      Object.assign(config, { municipalities: towns });
    });
    await test.service.reload();
    expect(lastLine()).toMatchObject({
      takenUp: ['limits.cards', 'municipalities'],
      afterRestart: ['limits.requestBytesMax'],
    });
    expect((await second()).status).toBe(201);
    await expect(elsewhere()).rejects.toThrow(/47201 is not configured/);
    change((config) => void delete (config as { municipalities?: unknown }).municipalities);
    await test.service.reload();
    expect((await elsewhere()).card.certificates).toHaveLength(2);
  });

  it('changes how much one client may ask, and how much of it at once', async () => {
    let before: object | undefined;
    const statuses = async () => {
      const asked = Array.from({ length: 24 }, () => test.api.get('/certificates?adopted'));
      return new Set((await Promise.all(asked)).map(({ status }) => status));
    };
    expect(await statuses()).toEqual(new Set([200]));
    change((config) => {
      before = config.limits;
      const waiting = { client: 1, all: 1 };
      config.limits = {
        ...config.limits,
        atOnce: { client: 1, all: 1 },
        scansAtOnce: { client: 1, all: 1 },
        waiting,
      };
    });
    await test.service.reload();
    expect(lastLine().takenUp).toContain('limits.waiting.client');
    expect(await statuses()).toEqual(new Set([200, 429]));
    change((config) => {
      config.limits = { ...before, requestsPerSecond: 1 };
    });
    await test.service.reload();
    expect(lastLine().takenUp).toContain('limits.requestsPerSecond');
    expect(await statuses()).toContain(429);
    change((config) => {
      config.limits = { ...before };
    });
    await test.service.reload();
    expect(await statuses()).toEqual(new Set([200]));
  });

  it('changes whether verifiers of OCSP must be known, from their next request on', async () => {
    const { ocsp, crl } = test.service.addresses;
    const token = 'a-token-of-the-bank';
    const tokenSha256 = hex(digest('sha256', Buffer.from(token)));
    const status = async (url: string) => (await fetch(url)).status;
    expect(await status(`${crl}/v/${token}/crl/index.json`)).toBe(403);
    expect(await status(`${ocsp}/MA`)).not.toBe(403);
    await recordVerifier(test.api, { credentials: [{ type: 'token', sha256: tokenSha256 }] });
    change((config) => {
      config.ocsp = {
        ...config.ocsp,
        verifiers: { ...(config.ocsp?.verifiers as object), required: true },
      };
    });
    await test.service.reload();
    expect(lastLine().takenUp).toEqual(['ocsp.verifiers.required']);
    expect(await status(`${ocsp}/MA`)).toBe(403);
    expect(await status(`${ocsp}/v/${token}/MA`)).not.toBe(403);
    expect(await status(`${crl}/v/${token}/crl/index.json`)).not.toBe(403);
  });

  it('shows the TLS certificate that the files hold now', async () => {
    const before = await shownAt(tlsPort);
    renew(test.folder);
    expect(await shownAt(tlsPort)).toBe(before);
    await test.service.reload();
    expect(await shownAt(tlsPort)).not.toBe(before);
    expect(lastLine().read).toContain('ocsp.pem');
  });

  it('leaves everything as it is where it is wrong, or one of its files is', async () => {
    const before = readFileSync(configFile(), 'utf8');
    const certificate = await shownAt(tlsPort);
    const key = join(test.folder, 'ocsp.key');
    const right = readFileSync(key);
    change((config) => {
      config.limits = { ...config.limits, cards: 3 };
    });
    for (const [mode, text] of [
      [0o644, right],
      [0o600, 'no key'],
      [
        0o600,
        openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256').replace(
          /^[.+*\s]+/,
          '',
        ),
      ],
    ] as const) {
      writeFileSync(key, text);
      chmodSync(key, mode);
      await test.service.reload();
      expect(lastLine().reason).toBeDefined();
      expect(test.service.ca.config.limits.cards).toBe(2);
    }
    writeFileSync(key, right);
    chmodSync(key, 0o600);
    for (const wrong of ['{"limits": {"cards": -1}}', '{"limits": {"carts": 1}}', '{']) {
      writeFileSync(configFile(), wrong);
      await test.service.reload();
      expect(lastLine().reason).toMatch(/configuration/);
    }
    writeFileSync(configFile(), before);
    expect(await shownAt(tlsPort)).toBe(certificate);
    expect(test.service.ca.config.limits.cards).toBe(2);
  });
});

describe('differences of a configuration', () => {
  it('are taken up by path, and lists as one', () => {
    const config = { a: { b: 1, c: [1, 2], d: { e: 'x' } }, f: true };
    const next = { a: { b: 2, c: [1, 3], d: { e: 'y', g: 1 } }, f: true };
    const { takenUp, afterRestart } = takeUp(config, next, (path) => path !== 'a.c');
    expect([takenUp, afterRestart]).toEqual([['a.b', 'a.d.e', 'a.d.g'], ['a.c']]);
    expect(config).toEqual({ a: { b: 2, c: [1, 2], d: { e: 'y', g: 1 } }, f: true });
  });
});

describe('a process that gets SIGHUP', () => {
  it('reads its configuration again and goes on', async () => {
    const folder = join(scratch(), 'data');
    const addresses = await configure(folder);
    const service = await startProcess(folder, addresses);
    const api = namedClient(folder, addresses.api, 'first');
    const file = join(folder, 'warifu.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(
      file,
      JSON.stringify({
        ...config,
        municipalities: [{ code: '47201', prefecture: 'Okinawa', municipality: 'Naha-shi' }],
      }),
    );
    const { holderId } = await issueCard(api, { holderId: 'before', cardId: 'before' });
    expect(holderId).toMatch(/holder/);
    service.child.kill('SIGHUP');
    const refused = async () =>
      issueCard(api, { holderId: crypto.randomUUID(), cardId: crypto.randomUUID() }).then(
        () => false,
        (error: Error) => error.message.includes('is not configured'),
      );
    await expect.poll(refused).toBe(true);
    expect((await fetchCrl(`${addresses.crl}/ca/signing-1.cer`)).length).toBeGreaterThan(100);
    await api.close();
    await service.stop();
  });
});
