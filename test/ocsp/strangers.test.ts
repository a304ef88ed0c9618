import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import * as pkijs from 'pkijs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requestCorpus, requestExtensions, requestOf } from '../../bench/load/ocsp-corpus.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { context, octetString, sequence, tlv } from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { certIdIssuer } from '../../ocsp/protocol/request.ts';
import { fuzzSockets, threadIds } from '../fuzz/fuzz-sockets.ts';
import { derOf, exact, fetchCrl, pemOf } from '../support/actors.ts';
import {
  fileOf,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

type Bytes = Uint8Array;

let test: TestService;
let port: number;
let signingCa: Bytes;
let authenticationCa: Bytes;
let signing: Bytes;
let authentication: Bytes;

beforeAll(async () => {
  test = await startTestService();
  const { card } = await issueCard(test.api);
  [signing, authentication] = [derOf(pemOf(card, 'card-signing')), derOf(pemOf(card, 'card-authentication'))];
  const ca = (name: string) => fetchCrl(`${test.service.addresses.crl}/ca/${name}.cer`);
  [signingCa, authenticationCa] = [await ca('signing-1'), await ca('authentication-1')];
  port = Number(new URL(test.service.addresses.ocsp).port);
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const serialOf = (certificate: Bytes): Bytes => parseCertificate(certificate).serial;
const about = (certificate = signing, ca = signingCa, hash: 'sha1' | 'sha256' = 'sha1') => ({
  issuer: certIdIssuer(ca, hash),
  serial: serialOf(certificate),
});
const post = (body: Bytes, headers = '', type = 'application/ocsp-request'): string =>
  `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\n${headers}Content-Length: ${body.length}\r\n\r\n${Buffer.from(body).toString('latin1')}`;
const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;
const base64 = (body: Bytes): string => Buffer.from(body).toString('base64');

/** Every way a request can take: our own reading, node:http, and GET. */
const ways: [string, (body: Bytes) => string][] = [
  ['plain POST', (body) => post(body)],
  ['POST by node:http', (body) => post(body, 'X-Trace: 1\r\n')],
  ['GET', (body) => get(`/${encodeURIComponent(base64(body))}`)],
  ['GET by node:http', (body) => get(`/${encodeURIComponent(base64(body))}`, 'X-Trace: 1\r\n')],
];

interface Asked {
  readonly text: string;
  readonly responses: Buffer[];
}

/** Sends octets; with `half-close` ends its side then. Resolves with what came until the other side ended, or says no more. */
function ask(octets: string, end: 'half-close' | 'wait' = 'wait', idleMs = 700): Promise<Asked> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    const chunks: Buffer[] = [];
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      const all = Buffer.concat(chunks);
      resolve({ text: all.toString('latin1'), responses: responsesIn(all) });
    });
    socket.write(Buffer.from(octets, 'latin1'));
    if (end === 'half-close') socket.end();
  });
}

function responsesIn(all: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = all.indexOf('\r\n\r\n', at);
    if (end < 0) return found;
    const head = all.toString('latin1', at, end);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    found.push(all.subarray(end + 4, end + 4 + length));
    at = end + 4 + length;
  }
}

/** What an answer says: the error status, or the status of each certificate. */
function said(response: Buffer | undefined): string {
  if (!response || response.length === 0) return 'nothing';
  if (response.length === 5)
    return { 1: 'malformed', 2: 'internal', 3: 'tryLater', 6: 'unauthorized' }[response[4] ?? 0] ?? '';
  return basicOf(response)
    .tbsResponseData.responses.map(
      ({ certStatus }) => ['good', 'revoked', 'unknown'][certStatus.idBlock.tagNumber],
    )
    .join(' ');
}

function basicOf(response: Buffer): pkijs.BasicOCSPResponse {
  const { responseBytes } = pkijs.OCSPResponse.fromBER(exact(response));
  return pkijs.BasicOCSPResponse.fromBER(responseBytes?.response.getValue() ?? new ArrayBuffer(0));
}

const withExtension = (value: Bytes): Bytes => requestOf({ certIds: [about()], extensions: [value] });
const cases = new URL('../fixtures/ocsp-extensions/', import.meta.url).pathname;
const given = (name: string): Bytes =>
  Buffer.from(readFileSync(`${cases}${name}.hex`, 'utf8').replace(/\s/g, ''), 'hex');
/** A request whose request extensions, or those of its single request, are given as octets with their tag. */
const raw = (extensions: Bytes, where: 'request' | 'single'): Bytes => {
  const { issuer, serial } = about();
  const certId = sequence(issuer, tlv(0x02, serial));
  return where === 'request'
    ? sequence(sequence(sequence(sequence(certId)), extensions))
    : sequence(sequence(sequence(sequence(certId, extensions))));
};

describe('one request of a stranger', () => {
  const table: [what: string, request: () => Bytes, answer: string][] = [
    ['prefers a key of no algorithm', () => raw(given('preferred-empty-capability'), 'request'), 'malformed'],
    ['prefers a key that is NULL', () => raw(given('preferred-null-capability'), 'request'), 'malformed'],
    [
      'prefers an algorithm of no octets',
      () => withExtension(extension(oid.ocspPreferredAlgorithms, sequence(sequence(sequence())))),
      'malformed',
    ],
    ['has a nonce in its single request', () => raw(given('nonce-in-single-request'), 'single'), 'good'],
    ['has a nonce that is not wrapped', () => raw(given('nonce-not-wrapped'), 'request'), 'malformed'],
    ['insists on the basic response', () => raw(given('acceptable-responses-critical'), 'request'), 'good'],
    [
      'insists on another response',
      () =>
        withExtension(
          extension(oid.ocspAcceptableResponses, sequence(tlv(6, Buffer.of(0x2a, 3))), 'critical'),
        ),
      'unauthorized',
    ],
    [
      'would rather have another response',
      () => withExtension(extension(oid.ocspAcceptableResponses, sequence(tlv(6, Buffer.of(0x2a, 3))))),
      'good',
    ],
    [
      'has an unknown extension that is critical',
      () => withExtension(extension('1.2.3.4', octetString(new Uint8Array(3)), 'critical')),
      'unauthorized',
    ],
    [
      'has an unknown extension',
      () => withExtension(extension('1.2.3.4', octetString(new Uint8Array(3)))),
      'good',
    ],
    [
      'has a critical extension in its single request',
      () =>
        requestOf({
          certIds: [{ ...about(), extensions: extension('1.2.3.4', new Uint8Array(0), 'critical') }],
        }),
      'unauthorized',
    ],
    [
      'asks about seventeen certificates',
      () => requestOf({ certIds: Array.from({ length: 17 }, () => about()) }),
      'unauthorized',
    ],
    [
      'asks about sixteen',
      () => requestOf({ certIds: Array.from({ length: 16 }, () => about()) }),
      Array(16).fill('good').join(' '),
    ],
    [
      'prefers twenty algorithms',
      () =>
        withExtension(
          extension(
            oid.ocspPreferredAlgorithms,
            sequence(...Array.from({ length: 20 }, () => sequence(sequence(tlv(6, Buffer.of(0x2a, 3)))))),
          ),
        ),
      'good',
    ],
    [
      'asks about two authorities',
      () => requestOf({ certIds: [about(), about(authentication, authenticationCa)] }),
      'good good',
    ],
    [
      'asks about an authority of ours and another',
      () =>
        requestOf({
          certIds: [{ issuer: certIdIssuer(signing, 'sha1'), serial: serialOf(signing) }, about()],
        }),
      'unknown good',
    ],
    ['asks by SHA-256', () => requestOf({ certIds: [about(signing, signingCa, 'sha256')] }), 'good'],
    ['has empty extensions', () => raw(tlv(context(2), sequence()), 'request'), 'good'],
    ['ends within an extension', () => raw(tlv(context(2), sequence(sequence())), 'request'), 'malformed'],
  ];

  describe.each(ways)('by %s', (_way, form) => {
    it.each(table)(
      'that %s is answered, and other connections notice nothing',
      async (_what, request, answer) => {
        const others = Array.from({ length: 5 }, () => connect({ host: '127.0.0.1', port }));
        const closed: Socket[] = [];
        for (const other of others) other.on('close', () => closed.push(other)).on('error', () => undefined);
        const { responses } = await ask(form(request()), 'half-close');
        expect(said(responses[0])).toBe(answer);
        expect(closed).toEqual([]);
        for (const other of others) other.destroy();
      },
    );
  });

  it('with a nonce in a single request gets none back (RFC 6960 §4.4.1)', async () => {
    const { responses } = await ask(post(raw(given('nonce-in-single-request'), 'single')), 'half-close');
    expect(basicOf(responses[0] as Buffer).tbsResponseData.responseExtensions ?? []).toEqual([]);
  });

  it('about two authorities is answered by openssl’s reckoning, where the responder is trusted for both', async () => {
    const file = (der: Bytes, name: string) =>
      fileOf(
        `-----BEGIN CERTIFICATE-----\n${base64(der).replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`,
        name,
      );
    const [ca1, ca2] = [file(signingCa, 'a'), file(authenticationCa, 'b')];
    const output = openssl(
      'ocsp',
      '-issuer',
      ca1,
      '-cert',
      file(signing, 'c'),
      '-issuer',
      ca2,
      '-cert',
      file(authentication, 'd'),
      '-no_nonce',
      '-noverify',
      '-url',
      test.service.addresses.ocsp,
    );
    expect(output.match(/: good/g)).toHaveLength(2);
  });
});

describe('a connection', () => {
  it.each([
    ['plain', ''],
    ['by node:http', 'X-Trace: 1\r\n'],
  ])(
    'that is half-closed behind pipelined requests gets all its answers, %s (RFC 9112 §9.3.2)',
    async (_way, headers) => {
      for (const count of [1, 64, 200, 1000]) {
        const one = post(requestOf({ certIds: [about()] }), headers);
        const { responses } = await ask(one.repeat(count), 'half-close', 5000);
        expect(responses.map(said)).toEqual(Array(count).fill('good'));
      }
    },
  );

  it('that changes from one way to the other before it is half-closed gets all its answers', async () => {
    const request = requestOf({ certIds: [about()] });
    const text = post(request).repeat(150) + post(request, 'X-Trace: 1\r\n').repeat(3);
    expect((await ask(text, 'half-close', 5000)).responses.map(said)).toEqual(Array(153).fill('good'));
  });

  it('is not read on behind its last request', async () => {
    const socket = connect({ host: '127.0.0.1', port });
    const ended = new Promise((done) => socket.on('close', done));
    socket.on('error', () => socket.destroy());
    const before = process.memoryUsage.rss();
    socket.write(Buffer.from(post(requestOf({ certIds: [about()] }), 'Connection: close\r\n'), 'latin1'));
    const chunk = Buffer.alloc(65_536, 'x');
    let sent = 0;
    const until = performance.now() + 3000;
    while (socket.writable && performance.now() < until) {
      if (socket.write(chunk)) sent += chunk.length;
      await new Promise((done) => setImmediate(done));
    }
    await ended;
    expect(sent).toBeLessThan(16 * 1024 * 1024);
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 1024 * 1024);
  });

  it('whose head stalls costs no more for each octet than the last one did', async () => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    socket.on('error', () => socket.destroy());
    const head = `GET / HTTP/1.1\r\nHost: x\r\nAccept: ${'a'.repeat(15_000)}`;
    const { user } = process.cpuUsage();
    for (let at = 0; at < head.length && socket.writable; at += 3) {
      socket.write(head.slice(at, at + 3));
      await new Promise((done) => setImmediate(done));
    }
    socket.destroy();
    // A search of everything for each piece, 5,000 times 15,000 octets, would take longer by itself.
    expect(process.cpuUsage({ user, system: 0 }).user).toBeLessThan(20_000_000);
    expect(said((await ask(post(requestOf({ certIds: [about()] })), 'half-close')).responses[0])).toBe(
      'good',
    );
  });
});

describe('HTTP as clients speak it', () => {
  const body = () => requestOf({ certIds: [about()] });
  const chunked = (octets: Bytes) =>
    `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nTransfer-Encoding: chunked\r\n\r\n${octets.length.toString(16)};ext=1\r\n${Buffer.from(octets).toString('latin1')}\r\n0\r\nTrailer: x\r\n\r\n`;
  const table: [string, () => string, RegExp][] = [
    [
      'absolute-form in a GET (RFC 9112 §3.2.2)',
      () => get(`http://ocsp.example/${base64(body())}`),
      /^good$/,
    ],
    [
      'absolute-form with a port, by HTTPS’ name',
      () => get(`https://ocsp.example:8443/${encodeURIComponent(base64(body()))}`),
      /^good$/,
    ],
    ['absolute-form in a POST', () => post(body()).replace('POST /', 'POST http://ocsp.example/'), /^good$/],
    [
      'absolute-form without a path',
      () => post(body()).replace('POST / ', 'POST http://ocsp.example '),
      /^good$/,
    ],
    [
      'a media type in capitals (RFC 9110 §8.3.1)',
      () => post(body(), '', 'Application/OCSP-Request'),
      /^good$/,
    ],
    [
      'a media type with parameters',
      () => post(body(), '', 'application/ocsp-request; charset=binary'),
      /^good$/,
    ],
    ['a body in chunks', () => chunked(body()), /^good$/],
    ['an expectation (RFC 9110 §10.1.1)', () => post(body(), 'Expect: 100-continue\r\n'), /^(nothing|good)$/],
  ];
  it.each(table)('%s is understood', async (_what, request, answer) => {
    const { responses } = await ask(request(), 'half-close');
    expect(said(responses.at(-1))).toMatch(answer);
  });

  it.each([
    ['no HTTP', 'hello\r\n\r\n', 400],
    ['another method', 'PUT / HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    [
      'another media type',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx',
      415,
    ],
    [
      'a body that is too large',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 99999\r\n\r\n',
      413,
    ],
    ['a head that is too large', `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ['another expectation', 'GET / HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n\r\n', 417],
  ])('%s is refused with a date, and no cache keeps it', async (_what, request, status) => {
    const { text } = await ask(request, 'half-close');
    expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(text).toMatch(/\r\nDate: \w{3}, /);
    if (status !== 417) expect(text).toMatch(/\r\nCache-Control: no-store\r\n/i);
  });

  it('reads the base64 of a GET in every form that can mean one request only', async () => {
    // Until the base64 has +, / and = in it.
    let octets = body();
    let text = base64(octets);
    for (let n = 0; !(text.includes('+') && text.includes('//') && text.endsWith('=')); n++) {
      const nonce = Buffer.alloc(10 + (n % 3), 0xff);
      nonce.writeUInt32BE((n * 2_654_435_761) >>> 0, 2);
      octets = withExtension(extension(oid.ocspNonce, octetString(nonce)));
      text = base64(octets);
    }
    const forms: [string, string][] = [
      [`/${text}`, 'good'],
      [`/${encodeURIComponent(text)}`, 'good'],
      [`/${encodeURIComponent(text).replace(/%../g, (each) => each.toLowerCase())}`, 'good'],
      [`/${text.replace(/=+$/, '')}`, 'good'],
      [`//${text}`, 'good'],
      [`/${text}?x=1`, 'good'],
      [`/${text}/`, 'good'],
      [`/${text.replaceAll('+', '-').replaceAll('/', '_')}`, 'good'],
      [`/${text.replaceAll('+', '%20')}`, 'good'],
      [`/${encodeURIComponent(encodeURIComponent(text))}`, 'good'],
      [`/%2F${text}`, 'good'],
      [`/${text.replaceAll('//', '/')}`, 'malformed'],
      [`/ocsp/${text}`, 'good'],
      [`/ocsp/jpki/${encodeURIComponent(text)}`, 'good'],
    ];
    for (const [path, answer] of forms) {
      const { responses } = await ask(get(path), 'half-close');
      expect([path, said(responses[0])]).toEqual([path, answer]);
    }
  });
});

describe('a stranger who pipelines without end what node:http reads', () => {
  it.each([
    ['and reads the answers', true],
    ['and reads nothing', false],
  ])(
    '%s, keeps no other client from an answer',
    async (_what, reads) => {
      const odd = Buffer.from('GET /x HTTP/1.1\r\nHost: x\r\nX-Odd: 1\r\n\r\n'.repeat(2000));
      const sockets = Array.from({ length: 10 }, () => {
        const socket = connect(port, '127.0.0.1');
        const flood = (): void => {
          while (socket.write(odd));
          socket.once('drain', flood);
        };
        socket.on('error', () => socket.destroy());
        socket.once('connect', flood);
        if (reads) socket.on('data', () => undefined);
        else socket.pause();
        return socket;
      });
      await new Promise((done) => setTimeout(done, 500));
      const rssBefore = process.memoryUsage.rss();
      const waitsMs: number[] = [];
      for (let asked = 0; asked < 8; asked += 1) {
        const sinceMs = performance.now();
        const { responses } = await ask(post(requestOf({ certIds: [about()] })));
        expect(responses).toHaveLength(1);
        waitsMs.push(performance.now() - sinceMs);
      }
      for (const socket of sockets) socket.destroy();
      // The flood is of this very process: it takes most of the time.
      expect(Math.max(...waitsMs)).toBeLessThan(5000);
      expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(300_000_000);
    },
    60_000,
  );
});

describe('strangers who send what they like', () => {
  // Another each time; the seed of a run that failed is in its message, and WARIFU_FUZZ_SEED repeats it.
  const seed = Number(process.env.WARIFU_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));

  it(`do no harm to others, nor to any thread (seed ${seed})`, async () => {
    const target = {
      ocspPort: port,
      crlPort: Number(new URL(test.service.addresses.crl).port),
      requests: requestCorpus(signingCa, serialOf(signing)),
      paths: [
        '/',
        '/crl/authority/signing-1.crl',
        '/ca/signing-1.cer',
        '/index.json',
        '/../warifu.json',
        '/%2e%2e/x',
      ],
      valid: requestOf({ certIds: [about()] }),
    };
    // So that what begins with the first use has begun.
    await fuzzSockets(target, 500, seed);
    const before = threadIds();
    const report = await fuzzSockets(target, 4000, seed + 1);
    expect(before.filter((id) => !threadIds().includes(id))).toEqual([]);
    expect(report.answered).toBeGreaterThan(100);
    expect(report.bystanders).toBeGreaterThan(100);
    expect(test.log()).not.toMatch(/died|failed/);
    expect(Object.keys(requestExtensions).length).toBeGreaterThan(8);
  }, 30_000);
});
