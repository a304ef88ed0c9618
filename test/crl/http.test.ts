import { createHash } from 'node:crypto';
import { mkdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { suites } from '../../core/asn1/algorithms.ts';
import { integer } from '../../core/asn1/der-writer.ts';
import { encodeName } from '../../core/asn1/name.ts';
import { closeServer, listen } from '../../core/http/listen.ts';
import { VerifierRegister } from '../../core/http/verifier-register.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { encodeCrlEntry, prepareCrl } from '../../crl/encode/encode.ts';
import { PublishedFiles } from '../../crl/serve/files.ts';
import { CrlServer } from '../../crl/serve/server.ts';
import { ManualClock, removeScratch, scratch } from '../support/harness.ts';
import { pointOf } from '../support/press.ts';
import { verifierFacts } from '../support/verifiers.ts';

const manual = new ManualClock();
const clock: Clock = manual;
const folder = scratch();
const token = 'a-token-of-a-bank-0123456789';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const name = 'crl/card-signing/1/13113/0.crl';
const second = (ms: number): number => Math.floor(ms / 1000) * 1000;
const issuedMs = second(clock.wallMs()) - 60_000;

/** A CRL that lasts a day; its signature is not looked at here. */
function crl(number: number, count: number): Bytes {
  const issuer = encodeName([['CN', 'ca']]);
  const entries = Array.from({ length: count }, (_, i) =>
    encodeCrlEntry({
      serial: Uint8Array.of(1, i >> 8, i),
      revokedMs: issuedMs,
      reason: null,
      invalidityMs: null,
    }),
  );
  const reference = { subject: issuer, serialNumber: integer(1), subjectKeyIdentifier: new Uint8Array(20) };
  const fields = { suite: suites['rsa2048-sha256'], issuer, reference, thisUpdateMs: issuedMs, number };
  return prepareCrl(
    {
      ...fields,
      nextUpdateMs: issuedMs + 86_400_000,
      baseNumber: null,
      distributionPointName: pointOf('card-signing/1/13113/0'),
      scope: 'onlyContainsUserCerts',
      freshest: null,
    },
    entries,
  ).seal(new Uint8Array(256));
}

/** As the publisher replaces a file: by another, of a later second. */
function replace(path: string, octets: Bytes, modifiedMs: number): void {
  const file = join(folder, path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(`${file}.new`, octets);
  utimesSync(`${file}.new`, modifiedMs / 1000, modifiedMs / 1000);
  renameSync(`${file}.new`, file);
}

const failed = (error: unknown): never => {
  throw error;
};
const open: { server: Server; close(): Promise<void> }[] = [];
let port = 0;

async function serve(
  { required = false, facts = [] }: { required?: boolean; facts?: readonly VerifierFacts[] } = {},
  cacheAgeMsMax: number | null = null,
  clock: Clock = manual,
): Promise<string> {
  const verifiers = new VerifierRegister({ rules: { required, tokensOver: 'any' }, clock });
  for (const each of facts) verifiers.update(each);
  const server = new CrlServer({
    files: new PublishedFiles({ folder, octetsMax: 300_000, clock, failed }),
    verifiers,
    isPrivate: () => required,
    fromFront: [],
    clock,
    connectionsMax: 100,
    cacheAgeMsMax,
    failed,
  });
  const listening = server.create(0);
  const address = await listen(listening, '127.0.0.1', 0);
  open.push({
    server: listening,
    close: async () => {
      const closing = closeServer(listening);
      server.close();
      await closing;
    },
  });
  return address;
}

let base: string;
const first = Buffer.from(crl(1, 800));

beforeAll(async () => {
  replace(name, first, issuedMs);
  replace('ca/signing-1.cer', Buffer.from('certificate'), issuedMs);
  replace('crl/index.json', Buffer.from('{"shards":[]}'), issuedMs);
  writeFileSync(join(folder, '.state.db'), 'secret');
  base = await serve();
  port = Number(new URL(base).port);
});
afterAll(async () => {
  for (const each of open) await each.close();
  removeScratch();
});

const get = async (
  path: string,
  headers: Record<string, string> = {},
  method: 'GET' | 'HEAD' | 'DELETE' = 'GET',
) => {
  const response = await request(`${path.startsWith('http') ? '' : `${base}/`}${path}`, { headers, method });
  return { ...response, octets: Buffer.from(await response.body.arrayBuffer()) };
};

/** Octets as they come over the wire for octets as they are sent; the connection is closed by the server. */
const raw = (text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.end(text));
    let said = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      said += chunk;
    });
    socket.on('end', () => resolve(said)).on('error', reject);
  });

describe('a CRL over HTTP', () => {
  it('comes with its type (RFC 2585), its tag, its time, and may be kept until its nextUpdate', async () => {
    const { headers, octets } = await get(name);
    expect(octets).toEqual(first);
    expect(headers['content-type']).toBe('application/pkix-crl');
    expect(headers.etag).toMatch(/^"[\w-]{22}"$/);
    expect(headers['last-modified']).toBe(new Date(issuedMs).toUTCString());
    const age = Number(
      /^public, max-age=(\d+), must-revalidate$/.exec(String(headers['cache-control']))?.[1],
    );
    const leftSeconds = (issuedMs + 86_400_000 - clock.wallMs()) / 1000;
    expect(Math.abs(age - leftSeconds)).toBeLessThan(3);
    expect(Math.abs(Date.parse(String(headers.expires)) - (issuedMs + 86_400_000))).toBeLessThan(3000);
  });

  it('is kept no longer than is configured', async () => {
    const address = await serve({}, 60_000);
    expect((await get(`${address}/${name}`)).headers['cache-control']).toBe(
      'public, max-age=60, must-revalidate',
    );
  });

  it('is not sent again to anyone who has it (RFC 9110 §13)', async () => {
    const { headers } = await get(name);
    const etag = String(headers.etag);
    for (const condition of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await get(name, { 'if-none-match': condition });
      expect([again.statusCode, again.octets.length, again.headers.etag]).toEqual([304, 0, etag]);
    }
    const since = String(headers['last-modified']);
    expect((await get(name, { 'if-modified-since': since })).statusCode).toBe(304);
    // A tag says more than a time.
    expect((await get(name, { 'if-modified-since': since, 'if-none-match': '"other"' })).statusCode).toBe(
      200,
    );
    expect((await get(name, { 'if-match': '"other"' })).statusCode).toBe(412);
    expect(
      (await get(name, { 'if-unmodified-since': new Date(issuedMs - 1000).toUTCString() })).statusCode,
    ).toBe(412);
  });

  it('is given in parts (RFC 9110 §14)', async () => {
    const total = first.length;
    const part = async (range: string, headers: Record<string, string> = {}) => {
      const { statusCode, headers: said, octets } = await get(name, { range, ...headers });
      return [statusCode, said['content-range'], octets.length];
    };
    expect(await part('bytes=0-9')).toEqual([206, `bytes 0-9/${total}`, 10]);
    expect(await part('bytes=-5')).toEqual([206, `bytes ${total - 5}-${total - 1}/${total}`, 5]);
    expect(await part(`bytes=${total - 1}-`)).toEqual([206, `bytes ${total - 1}-${total - 1}/${total}`, 1]);
    expect(await part(`bytes=${total}-`)).toEqual([416, `bytes */${total}`, 0]);
    for (const range of ['bytes=0-1,3-4', 'bytes=9-5', 'lines=1-2', 'bytes=-']) {
      expect(await part(range)).toEqual([200, undefined, total]);
    }
    const { headers } = await get(name);
    expect(await part('bytes=0-9', { 'if-range': String(headers.etag) })).toEqual([
      206,
      `bytes 0-9/${total}`,
      10,
    ]);
    expect(await part('bytes=0-9', { 'if-range': '"other"' })).toEqual([200, undefined, total]);
    expect(await part('bytes=0-9', { 'accept-encoding': 'gzip' })).toEqual([206, `bytes 0-9/${total}`, 10]);
    expect((await get(name, { range: 'bytes=10-19' })).octets).toEqual(first.subarray(10, 20));
  });

  it.each([
    ['gzip', 'gzip', gunzipSync],
    ['gzip, zstd', 'zstd', zstdDecompressSync],
    ['zstd;q=0, gzip;q=0.5', 'gzip', gunzipSync],
    ['br', undefined, Buffer.from],
    ['identity', undefined, Buffer.from],
    ['*;q=0', undefined, Buffer.from],
  ] as const)(
    'comes as Accept-Encoding: %s wants it, under a tag of its own',
    async (accepted, coding, decode) => {
      const plain = await get(name);
      for (let time = 0; time < 2; time++) {
        const { headers, octets } = await get(name, { 'accept-encoding': accepted });
        expect(headers['content-encoding']).toBe(coding);
        expect(headers.vary).toBe('Accept-Encoding');
        expect(Buffer.from(decode(octets as never))).toEqual(first);
        expect(headers.etag === plain.headers.etag).toBe(coding === undefined);
        expect(
          (await get(name, { 'accept-encoding': accepted, 'if-none-match': String(headers.etag) }))
            .statusCode,
        ).toBe(304);
      }
    },
  );

  it('is the new one as soon as it is replaced, for all conditions', async () => {
    const path = 'crl/card-signing/1/13113/1.crl';
    replace(path, crl(1, 3), issuedMs);
    const before = await get(path);
    replace(path, crl(2, 4), issuedMs + 1000);
    await new Promise((done) => setTimeout(done, 60));
    const after = await get(path, { 'if-none-match': String(before.headers.etag) });
    expect([after.statusCode, after.octets]).toEqual([200, Buffer.from(crl(2, 4))]);
    const since = String(before.headers['last-modified']);
    expect((await get(path, { 'if-modified-since': since })).statusCode).toBe(200);
  });

  it('is not said to be of a time to come', async () => {
    const path = 'crl/card-signing/1/13113/2.crl';
    replace(path, crl(1, 3), second(clock.wallMs()) + 5000);
    expect((await get(path)).headers['last-modified']).toBeUndefined();
    const later = new Date(clock.wallMs() + 60_000).toUTCString();
    expect((await get(path, { 'if-modified-since': later })).statusCode).toBe(200);
  });

  it('is the same by each way to ask: simple, pipelined, HTTP/1.0, HEAD', async () => {
    const simple = `GET /${name} HTTP/1.1\r\nHost: x\r\n`;
    const twice = await raw(`${simple}\r\n${simple}Connection: close\r\n\r\n`);
    expect(twice.split('HTTP/1.1 200 OK')).toHaveLength(3);
    expect(Buffer.from(twice, 'latin1').includes(first)).toBe(true);
    expect(twice).toContain('Connection: close');
    const old = await raw(`GET /${name} HTTP/1.0\r\n\r\n`);
    expect(Buffer.from(old, 'latin1').includes(first)).toBe(true);
    const head = await get(name, {}, 'HEAD');
    expect([head.octets.length, head.headers['content-length']]).toEqual([0, String(first.length)]);
  });

  it('stays whole where many are asked for that do not fit in memory', async () => {
    const paths = Array.from({ length: 30 }, (_, i) => `crl/card-signing/1/20000/${i}.crl`);
    for (const [i, path] of paths.entries()) replace(path, crl(i + 1, 700), issuedMs);
    for (let round = 0; round < 3; round++) {
      const all = await Promise.all(paths.map((path) => get(path, { 'accept-encoding': 'gzip' })));
      for (const [i, { octets, headers }] of all.entries()) {
        const plain = headers['content-encoding'] === 'gzip' ? gunzipSync(octets) : octets;
        expect(plain).toEqual(Buffer.from(crl(i + 1, 700)));
      }
    }
  });
});

describe('a client that reads slowly', () => {
  const large = 'crl/card-signing/1/all/0.crl';
  /** A clock of which a test says how fast it goes. */
  const patient = { nowMs: 0, wallMs: () => manual.wallMs(), monotonicMs: () => patient.nowMs };

  it('gets all of a large CRL as long as it goes on reading, and is cut off when it does not', async () => {
    const octets = Buffer.alloc(24_000_000, 7);
    replace(large, octets, issuedMs);
    const at = Number(new URL(await serve({}, null, patient)).port);
    const ask = `GET /${large} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
    const slow = connect(at, '127.0.0.1', () => slow.write(ask));
    let got = 0;
    const read = new Promise<void>((resolve, reject) => {
      slow.on('data', ({ length }: Buffer) => {
        got += length;
        slow.pause();
        // More than the ten seconds in all for which an answer may stand still.
        patient.nowMs += 40;
        setTimeout(() => slow.resume(), 8);
      });
      slow.on('end', resolve).on('error', reject);
    });
    await read;
    expect(got).toBeGreaterThan(octets.length);
    expect(patient.nowMs).toBeGreaterThan(12_000);
    const stalled = connect(at, '127.0.0.1', () => stalled.write(ask));
    stalled.pause();
    const cutOff = new Promise<void>((resolve) =>
      stalled.on('close', () => resolve()).on('error', () => undefined),
    );
    await new Promise((done) => setTimeout(done, 1200));
    patient.nowMs += 11_000;
    await new Promise((done) => setTimeout(done, 1200));
    stalled.resume();
    await cutOff;
    expect(stalled.bytesRead).toBeLessThan(octets.length);
  }, 30_000);
});

describe('with CRLs', () => {
  it('there are CA certificates and the index of shards', async () => {
    const certificate = await get('ca/signing-1.cer');
    expect(certificate.headers['content-type']).toBe('application/pkix-cert');
    const index = await get('crl/index.json');
    expect([index.headers['content-type'], index.headers['cache-control']]).toEqual([
      'application/json',
      'no-cache',
    ]);
  });

  it.each([
    '',
    '.state.db',
    'crl/../.state.db',
    'crl/%2e%2e/.state.db',
    'crl//x.crl',
    'crl/card-signing/1/13113/0.base',
    'crl/none.crl',
    'crl/a/b/c/d/e.crl',
    'ca/none.cer',
    'ca/..%2fx.cer',
    `crl/${'x'.repeat(65)}.crl`,
  ])('there is nothing at /%s', async (path) => {
    const said = await raw(`GET /${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    expect(said).toMatch(/^HTTP\/1\.1 404 /);
  });

  it('only reading is allowed', async () => {
    const { statusCode, headers } = await get(name, {}, 'DELETE');
    expect([statusCode, headers.allow]).toEqual([405, 'GET, HEAD']);
  });
});

it('a browser gets a sentence that says what the server is', async () => {
  for (const address of [base, await serve({ required: true })]) {
    const page = await get(`${address}/`, { accept: 'text/html,*/*;q=0.8' });
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.octets.toString()).toContain('certificate revocation lists');
  }
});

describe('verifiers with addresses of their own', () => {
  it('are not asked of clients that get a CA’s certificate: chains are checked by everybody', async () => {
    const closed = await serve({ required: true });
    expect((await get(`${closed}/ca/signing-1.cer`)).octets.toString()).toBe('certificate');
    expect((await get(`${closed}/ca/signing-1.cer`, {}, 'HEAD')).statusCode).toBe(200);
    expect((await get(`${closed}/ca/signing-9.cer`)).statusCode).toBe(404);
    expect((await get(`${closed}/crl/index.json`)).statusCode).toBe(403);
  });

  it('have all there is below their token, and others are refused where all must be known', async () => {
    const credential = { type: 'token', value: sha256(token), fromMs: 0, toMs: null } as const;
    const facts = [verifierFacts({ credentials: [credential] })];
    const closed = await serve({ required: true, facts });
    expect((await get(`${closed}/v/${token}/${name}`)).octets).toEqual(first);
    expect((await get(`${closed}/${name}`)).statusCode).toBe(403);
    expect((await get(`${closed}/v/${token}x/${name}`)).statusCode).toBe(403);
    const public_ = await serve({ facts });
    expect((await get(`${public_}/${name}`)).statusCode).toBe(200);
    expect((await get(`${public_}/v/${token}/${name}`)).statusCode).toBe(200);
    expect((await get(`${public_}/v/wrong-token-0123456789/${name}`)).statusCode).toBe(403);
  });
});
