import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { presignedPath } from '../../ocsp/sign/presigner.ts';
import { askOcsp, derOf, fetchCrl, ocspRequest, pemOf } from '../support/actors.ts';
import {
  dataFolder,
  fileOf,
  freePort,
  type Holder,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { recordVerifier } from '../support/verifiers.ts';

afterAll(removeScratch);

const statusIn = (response: Uint8Array): string => {
  if (response.length === 5) return response[4] === 3 ? 'tryLater' : `error ${response[4]}`;
  return (
    /Cert Status: (\w+)/.exec(openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text'))?.[1] ??
    ''
  );
};
const leafOf = ({ card }: Holder): Uint8Array => derOf(pemOf(card, 'card-signing'));
const authorityOf = ({ service }: TestService): Promise<Uint8Array> =>
  fetchCrl(`${service.addresses.crl}/ca/signing-1.cer`);
const until = async (what: string, holds: () => Promise<boolean> | boolean): Promise<void> => {
  const deadlineMs = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`never: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
};

describe('listening threads that share a port', () => {
  let test: TestService;
  beforeAll(async () => {
    test = await startTestService({ overrides: { ocsp: { threads: 2, responderSuites: ['p256-sha256'] } } });
  });
  afterAll(() => test.close());

  it('give no good to a question asked after its revocation was acknowledged, cached or not', async () => {
    const address = test.service.addresses.ocsp;
    const ca = await authorityOf(test);
    const holders = [await issueCard(test.api), await issueCard(test.api), await issueCard(test.api)];
    for (const holder of holders) {
      const leaf = leafOf(holder);
      const plain = await ocspRequest(leaf, ca);
      let acknowledgedMs = Number.POSITIVE_INFINITY;
      const late: string[] = [];
      let isOver = false;
      let asked = 0;
      const hammer = async (nonced: boolean): Promise<void> => {
        while (!isOver) {
          const query = nonced ? await ocspRequest(leaf, ca, { nonce: randomBytes(16) }) : plain;
          const sentMs = performance.now();
          const response = await askOcsp(address, query);
          asked += 1;
          // good [0] IMPLICIT NULL stands right before thisUpdate.
          const isGood = Buffer.from(response).includes(Buffer.from('8000180f', 'hex'));
          if (sentMs > acknowledgedMs) late.push(isGood ? 'good' : 'not good');
        }
      };
      const hammers = [true, true, false, false, false, false].map(hammer);
      await until('all ask', () => asked > 50);
      const event = { event: 'card-returned', cardId: holder.cardId };
      expect((await test.api.post('/events', event)).status).toBe(200);
      acknowledgedMs = performance.now();
      await until('many have asked since', () => late.length > 50);
      isOver = true;
      await Promise.all(hammers);
      expect(late).not.toContain('good');
    }
  });

  it('are not joined by another service on the same port', async () => {
    const { port } = new URL(test.service.addresses.ocsp);
    const overrides = { ocsp: { threads: 2, port: Number(port) } };
    await expect(startTestService({ overrides })).rejects.toThrow('EADDRINUSE');
  });
});

describe('verifiers', () => {
  const [bank, hospital] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')];
  const sha256 = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');
  let test: TestService;
  let leaf: Uint8Array;
  let query: Buffer;
  let ownPort: number;
  let tlsPort: number;
  let client: { key: string; cert: string; ca: string };
  const ids = new Map<string, string>();

  beforeAll(async () => {
    [ownPort, tlsPort] = [await freePort(), await freePort()];
    const folder = await dataFolder();
    const first = await startTestService({ folder });
    await first.close();
    // Certificates of the operations CA do for this: the API's own, and its first client's.
    const read = (...path: string[]): string => readFileSync(join(folder, ...path), 'utf8');
    const ca = read('tls', 'operations-ca.pem');
    client = { key: read('clients', 'first.key'), cert: read('clients', 'first.pem'), ca };
    const file = join(folder, 'warifu.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    config.ocsp.verifiers = {
      required: true,
      log: true,
      tls: {
        port: tlsPort,
        key: 'tls/api.key',
        cert: 'tls/api.pem',
        ca: 'tls/operations-ca.pem',
      },
    };
    writeFileSync(file, JSON.stringify(config));
    test = await startTestService({ folder });
    for (const credential of [
      { type: 'token', sha256: sha256(bank) },
      { type: 'port', port: ownPort },
      { type: 'certificate', sha256: sha256(derOf(client.cert)) },
    ]) {
      const { verifierId } = await recordVerifier(test.api, { credentials: [credential] });
      ids.set(credential.type, verifierId);
    }
    leaf = leafOf(await issueCard(test.api));
    query = Buffer.from(await ocspRequest(leaf, await authorityOf(test)));
  });

  const post = async (url: string) => {
    const headers = { 'content-type': 'application/ocsp-request' };
    const { statusCode, body } = await request(url, { method: 'POST', headers, body: query });
    return { status: statusCode, body: new Uint8Array(await body.arrayBuffer()) };
  };

  it('are known by a token in the path, by GET and by POST', async () => {
    const base = test.service.addresses.ocsp;
    const answer = await post(`${base}/v/${bank}`);
    expect([answer.status, statusIn(answer.body)]).toEqual([200, 'good']);
    const { statusCode, body } = await request(
      `${base}/v/${bank}/${encodeURIComponent(query.toString('base64'))}`,
    );
    expect([statusCode, statusIn(new Uint8Array(await body.arrayBuffer()))]).toEqual([200, 'good']);
  });

  it('are refused with an unknown token, or without any where all must be known', async () => {
    const base = test.service.addresses.ocsp;
    expect((await post(`${base}/v/${hospital}`)).status).toBe(403);
    expect((await post(base)).status).toBe(403);
    expect((await request(`${base}/${encodeURIComponent(query.toString('base64'))}`)).statusCode).toBe(403);
  });

  it('are known by a port of their own', async () => {
    expect(statusIn((await post(`http://127.0.0.1:${ownPort}`)).body)).toBe('good');
  });

  it('are known by their TLS certificate', async () => {
    const octets = await new Promise<Buffer>((resolve, reject) => {
      const headers = { 'content-type': 'application/ocsp-request' };
      const options = { ...client, host: '127.0.0.1', port: tlsPort, method: 'POST', headers };
      const sent = httpsRequest({ ...options, checkServerIdentity: () => undefined }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(Buffer.concat(chunks)));
      });
      sent.on('error', reject);
      sent.end(query);
    });
    expect(statusIn(octets)).toBe('good');
  });

  it('are on record with what they asked and when, and with no token', async () => {
    await test.close();
    const folder = join(test.folder, 'ocsp', 'asked');
    const text = readdirSync(folder)
      .map((file) => readFileSync(join(folder, file), 'utf8'))
      .join('');
    const entries = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string | number>);
    const asked = ['token', 'token', 'port', 'certificate'].map((type) => ids.get(type));
    expect(entries.map(({ verifier }) => verifier)).toEqual(asked);
    const serialNumber = openssl('x509', '-inform', 'DER', '-in', fileOf(leaf), '-noout', '-serial')
      .trim()
      .slice(7)
      .toLowerCase();
    for (const entry of entries) {
      expect(entry).toMatchObject({
        authority: 'signing-1',
        status: 'good',
        serialNumber: serialNumber.padStart(34, '0'),
      });
      expect(Math.abs(Number(entry.atMs) - Date.now())).toBeLessThan(60_000);
    }
    expect(text).not.toContain(bank);
  });
});

describe('answers signed before anybody asks', () => {
  it('lie in files for a static server, and follow what happens to their certificates', async () => {
    const test = await startTestService({
      overrides: { ocsp: { presign: { to: 'files', newest: 50 }, responderSuites: ['p256-sha256'] } },
    });
    const holder = await issueCard(test.api);
    const ca = await authorityOf(test);
    const query = await ocspRequest(leafOf(holder), ca, { hash: 'SHA-1' });
    const { folder, clock } = test;
    await test.close();
    const again = await startTestService({ folder, clock });
    const file = join(folder, 'presigned', presignedPath(query));
    expect(existsSync(file)).toBe(true);
    const caFile = fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(ca)));
    const leafFile = fileOf(pemOf(holder.card, 'card-signing'));
    const judged = (response: string) =>
      openssl(
        'ocsp',
        '-respin',
        response,
        '-issuer',
        caFile,
        '-cert',
        leafFile,
        '-CAfile',
        caFile,
        '-no_nonce',
      );
    expect(judged(file)).toMatch(/: good[\s\S]*Response verify OK/);
    await again.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    // Between the event and its new answer there is no file at all, from any moment on.
    const answer = () => readFile(file).catch(() => undefined);
    await until('the file says so', async () => {
      const now = await answer();
      return now !== undefined && judged(fileOf(now)).includes(': revoked');
    });
    await again.close();
  });

  it('lie in memory, and need no signature when they are asked for', async () => {
    const test = await startTestService({ overrides: { ocsp: { presign: { to: 'memory', newest: 50 } } } });
    const holder = await issueCard(test.api);
    const query = await ocspRequest(leafOf(holder), await authorityOf(test), { hash: 'SHA-1' });
    const { folder, clock } = test;
    await test.close();
    const again = await startTestService({ folder, clock });
    const startedMs = Date.now();
    await new Promise((done) => setTimeout(done, 1100));
    const response = await askOcsp(again.service.addresses.ocsp, query);
    const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
    const producedMs = Date.parse(/Produced At: (.*)/.exec(text)?.[1] ?? '');
    expect(producedMs).toBeLessThanOrEqual(startedMs);
    await again.close();
  });
});

describe('after a restart', () => {
  it('the index goes on from its snapshot, and from the start where that is damaged', async () => {
    const test = await startTestService({ overrides: { ocsp: { responderSuites: ['p256-sha256'] } } });
    const holder = await issueCard(test.api);
    const ca = await authorityOf(test);
    await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    const { folder, clock } = test;
    await test.close();
    const file = join(folder, 'ocsp', 'index.snapshot');
    const ask = async (service: TestService) =>
      statusIn(await askOcsp(service.service.addresses.ocsp, await ocspRequest(leafOf(holder), ca)));
    const second = await startTestService({ folder, clock });
    expect(second.log()).not.toContain('the index is rebuilt');
    expect(await ask(second)).toBe('revoked');
    await second.close();
    const octets = readFileSync(file);
    octets[octets.length >> 1] = (octets[octets.length >> 1] ?? 0) ^ 1;
    writeFileSync(file, octets);
    const third = await startTestService({ folder, clock });
    expect(third.log()).toContain('the index is rebuilt');
    expect(await ask(third)).toBe('revoked');
    await third.close();
  });
});
