import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseSimpleHead } from '../../core/http/http-head.ts';
import { derOf, fetchCrl, ocspRequest, pemOf } from '../support/actors.ts';
import { issueCard, removeScratch, startTestService, type TestService } from '../support/harness.ts';

let test: TestService;
let body: Buffer;
let nonced: Buffer;
let port: number;

beforeAll(async () => {
  test = await startTestService({ overrides: { ocsp: { requestBytesMax: 2000 } } });
  const leaf = derOf(pemOf((await issueCard(test.api)).card, 'card-signing'));
  const ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
  body = Buffer.from(await ocspRequest(leaf, ca));
  nonced = Buffer.from(await ocspRequest(leaf, ca, { nonce: randomBytes(16) }));
  port = Number(new URL(test.service.addresses.ocsp).port);
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Response {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Sends octets, in pieces, and gives what comes back until `count` answers are there or the other side ends. */
function raw(octets: Buffer | string, { count = 1, pieces = 1, method = 'POST' } = {}): Promise<Response[]> {
  return new Promise((resolve, reject) => {
    const all = Buffer.from(octets as string, 'latin1');
    const answers: Response[] = [];
    let unread = Buffer.alloc(0);
    const socket = connect({ host: '127.0.0.1', port });
    socket.setTimeout(5000, () => socket.destroy(new Error('no answer')));
    const size = Math.ceil(all.length / pieces);
    const send = async (): Promise<void> => {
      for (let at = 0; at < all.length && socket.writable; at += size) {
        socket.write(all.subarray(at, at + size));
        if (pieces > 1) await new Promise((done) => setTimeout(done, 1));
      }
    };
    void send();
    socket.on('data', (chunk) => {
      unread = Buffer.concat([unread, chunk]);
      for (;;) {
        const end = unread.indexOf('\r\n\r\n');
        if (end < 0) return;
        const [line = '', ...lines] = unread.toString('latin1', 0, end).split('\r\n');
        const headers = Object.fromEntries(
          lines.map((text) => [text.split(':')[0]?.toLowerCase(), text.slice(text.indexOf(':') + 1).trim()]),
        ) as Record<string, string>;
        const status = Number(line.split(' ')[1]);
        const length = method === 'HEAD' || status === 304 ? 0 : Number(headers['content-length'] ?? 0);
        if (unread.length < end + 4 + length) return;
        answers.push({ status, headers, body: unread.subarray(end + 4, end + 4 + length) });
        unread = unread.subarray(end + 4 + length);
        if (answers.length === count) {
          socket.destroy();
          resolve(answers);
        }
      }
    });
    // A refusal may end the connection before all was said.
    socket.on('error', (error: NodeJS.ErrnoException) =>
      ['ECONNRESET', 'EPIPE'].includes(error.code ?? '') ? resolve(answers) : reject(error),
    );
    socket.on('close', () => resolve(answers));
  });
}

/** What an answer is, in a word. */
function kindOf({ body: octets }: Response): string {
  if (octets.length === 0) return 'nothing';
  if (octets.length > 5) return 'signed';
  return (
    { 1: 'malformedRequest', 3: 'tryLater', 6: 'unauthorized' }[octets[4] ?? 0] ?? octets.toString('hex')
  );
}

const post = (content: Buffer, headers = '', line = 'POST / HTTP/1.1'): string =>
  `${line}\r\nHost: x\r\nContent-Type: application/ocsp-request\r\n${headers}Content-Length: ${content.length}\r\n\r\n${content.toString('latin1')}`;
const get = (path: string, headers = '', method = 'GET', version = '1.1'): string =>
  `${method} ${path} HTTP/${version}\r\nHost: x\r\n${headers}\r\n`;
const base64 = (): string => body.toString('base64');

describe('over HTTP', () => {
  const caching = ['last-modified', 'expires', 'etag', 'cache-control'];
  // What is asked; the status; what the body is; whether it may be kept.
  const table: [
    what: string,
    request: () => string,
    status: number,
    kind: string,
    keep: 'kept' | 'not kept',
  ][] = [
    ['POST', () => post(body), 200, 'signed', 'not kept'],
    ['POST with a nonce', () => post(nonced), 200, 'signed', 'not kept'],
    ['POST to any path', () => post(body, '', 'POST /a/b?c HTTP/1.1'), 200, 'signed', 'not kept'],
    ['POST by HTTP/1.0', () => post(body, '', 'POST / HTTP/1.0'), 200, 'signed', 'not kept'],
    [
      'POST with headers we have no use for',
      () => post(body, 'X-Trace: 1\r\nAccept: */*\r\n'),
      200,
      'signed',
      'not kept',
    ],
    [
      'POST in chunks',
      () =>
        `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body.toString('latin1')}\r\n0\r\n\r\n`,
      200,
      'signed',
      'not kept',
    ],
    ['POST of nothing', () => post(Buffer.alloc(0)), 200, 'malformedRequest', 'not kept'],
    ['POST of something else', () => post(Buffer.from('hello')), 200, 'malformedRequest', 'not kept'],
    [
      'POST of another type',
      () => 'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx',
      415,
      'nothing',
      'not kept',
    ],
    [
      'POST without a type',
      () => 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx',
      415,
      'nothing',
      'not kept',
    ],
    ['POST that is too large', () => post(Buffer.alloc(2001)), 413, 'nothing', 'not kept'],
    [
      'POST that says it is too large',
      () =>
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 99999999\r\n\r\n',
      413,
      'nothing',
      'not kept',
    ],
    ['GET with plain base64', () => get(`/${base64()}`), 200, 'signed', 'kept'],
    ['GET with percent-encoded base64', () => get(`/${encodeURIComponent(base64())}`), 200, 'signed', 'kept'],
    [
      'GET with every octet percent-encoded',
      () => get(`/${[...base64()].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('')}`),
      200,
      'signed',
      'kept',
    ],
    ['GET by HTTP/1.0', () => get(`/${base64()}`, '', 'GET', '1.0'), 200, 'signed', 'kept'],
    [
      'GET with headers we have no use for',
      () => get(`/${base64()}`, 'X-Trace: 1\r\n'),
      200,
      'signed',
      'kept',
    ],
    [
      'GET with a nonce',
      () => get(`/${encodeURIComponent(nonced.toString('base64'))}`),
      200,
      'signed',
      'not kept',
    ],
    ['GET of nothing', () => get('/'), 200, 'malformedRequest', 'not kept'],
    ['GET of what is not base64', () => get('/****'), 200, 'malformedRequest', 'not kept'],
    ['GET of a broken escape', () => get('/%4'), 200, 'malformedRequest', 'not kept'],
    ['GET that is too large', () => get(`/${'A'.repeat(2000)}`), 414, 'nothing', 'not kept'],
    ['HEAD', () => get(`/${base64()}`, '', 'HEAD'), 200, 'nothing', 'kept'],
    ['PUT', () => get('/', '', 'PUT'), 405, 'nothing', 'not kept'],
    ['DELETE', () => get('/', '', 'DELETE'), 405, 'nothing', 'not kept'],
    ['no HTTP', () => 'hello\r\n\r\n', 400, 'nothing', 'not kept'],
    ['a request without a host', () => post(body).replace('Host: x\r\n', ''), 400, 'nothing', 'not kept'],
    [
      'a head without end',
      () => `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}`,
      431,
      'nothing',
      'not kept',
    ],
    ['two lengths', () => post(body, 'Content-Length: 3\r\n'), 400, 'nothing', 'not kept'],
    ['a length and chunks', () => post(body, 'Transfer-Encoding: chunked\r\n'), 400, 'nothing', 'not kept'],
  ];

  it.each(table)('%s is answered', async (_what, request, status, kind, keep) => {
    const octets = request();
    const [answer] = await raw(octets, { method: octets.split(' ')[0] ?? '' });
    expect([answer?.status, answer && kindOf(answer)]).toEqual([status, kind]);
    if (!answer || status >= 400) return;
    expect(answer.headers['content-type']).toBe('application/ocsp-response');
    expect(Date.parse(answer.headers.date ?? '')).toBeGreaterThan(0);
    if (keep === 'kept') for (const name of caching) expect(answer.headers[name]).toBeTruthy();
    else expect(answer.headers['cache-control']).toBe('no-store');
  });

  it('a browser gets a sentence, and a client of OCSP what it can read', async () => {
    const [page] = await raw(get('/', 'Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n'));
    expect(page?.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(String(page?.body)).toContain('whether a certificate has been revoked');
    const [answer] = await raw(get('/', 'Accept: application/ocsp-response\r\n'));
    expect(answer?.headers['content-type']).toBe('application/ocsp-response');
  });

  it('405 says which methods there are', async () => {
    expect((await raw(get('/', '', 'PUT')))[0]?.headers.allow).toBe('GET, HEAD, POST');
  });

  it('a kept answer is fresh until nextUpdate and no longer (RFC 9919 §7.2)', async () => {
    const [answer] = await raw(get(`/${base64()}`));
    const { headers } = answer as Response;
    const lifeMs = Date.parse(headers.expires ?? '') - Date.parse(headers['last-modified'] ?? '');
    // thisUpdate lies a minute back, for clocks that lag.
    expect(lifeMs).toBe(3_660_000);
    const maxAge = Number(
      /^max-age=(\d+), public, no-transform, must-revalidate$/.exec(headers['cache-control'] ?? '')?.[1],
    );
    expect(Date.parse(headers.date ?? '') + maxAge * 1000).toBeLessThanOrEqual(
      Date.parse(headers.expires ?? '') + 1000,
    );
  });

  it('what has not changed is not sent again (RFC 9110 §13)', async () => {
    const [first] = await raw(get(`/${base64()}`));
    const { etag = '', 'last-modified': modified = '' } = first?.headers ?? {};
    const statusFor = async (headers: string) => (await raw(get(`/${base64()}`, headers)))[0]?.status;
    expect(await statusFor(`If-None-Match: ${etag}\r\n`)).toBe(304);
    expect(await statusFor(`If-None-Match: "x", W/${etag}\r\n`)).toBe(304);
    expect(await statusFor('If-None-Match: *\r\n')).toBe(304);
    expect(await statusFor('If-None-Match: "x"\r\n')).toBe(200);
    // Two answers of one second may differ: a date says too little.
    expect(await statusFor(`If-Modified-Since: ${modified}\r\n`)).toBe(200);
    expect(await statusFor('If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n')).toBe(200);
    expect(await statusFor('If-Modified-Since: nonsense\r\n')).toBe(200);
    // A tag counts before a date.
    expect(await statusFor(`If-None-Match: "x"\r\nIf-Modified-Since: ${modified}\r\n`)).toBe(200);
  });

  it('HEAD says of the body what GET does', async () => {
    const [[whole], [head]] = [
      await raw(get(`/${base64()}`)),
      await raw(get(`/${base64()}`, '', 'HEAD'), { method: 'HEAD' }),
    ];
    for (const name of ['content-length', 'content-type', 'etag', 'expires', 'last-modified'])
      expect(head?.headers[name]).toBe(whole?.headers[name]);
  });

  it('a connection stays open, unless the client will have it closed', async () => {
    expect(await raw(post(body) + post(body) + get(`/${base64()}`), { count: 3 })).toHaveLength(3);
    const closed = await raw(post(body, 'Connection: close\r\n') + post(body), { count: 2 });
    expect(closed).toHaveLength(1);
    expect(closed[0]?.headers.connection).toBe('close');
    expect(await raw(post(body, '', 'POST / HTTP/1.0') + post(body), { count: 2 })).toHaveLength(1);
  });

  it('pipelined requests are answered in their order, whichever way each is read', async () => {
    const kinds = [body, Buffer.from('hello'), nonced, body];
    const requests = Array.from({ length: 100 }, (_, i) => {
      const content = kinds[i % kinds.length] as Buffer;
      return post(content, i === 61 ? 'X-Trace: 1\r\n' : '');
    });
    const answers = await raw(requests.join(''), { count: 100 });
    expect(answers.map(kindOf)).toEqual(
      Array.from({ length: 100 }, (_, i) => (i % 4 === 1 ? 'malformedRequest' : 'signed')),
    );
  });

  it('a request that comes octet by octet is read like any other', async () => {
    expect((await raw(post(body), { pieces: 400 })).map(kindOf)).toEqual(['signed']);
    expect((await raw(post(body, 'X-Trace: 1\r\n'), { pieces: 400 })).map(kindOf)).toEqual(['signed']);
  });

  it('whatever the fast way reads, node:http reads alike', async () => {
    const header = fc.constantFrom(
      'Accept: */*',
      'User-Agent: a',
      'accept-encoding:gzip',
      'Cache-Control:  no-cache ',
      'Pragma: no-cache',
      'Connection: keep-alive',
      'Connection: close',
      'Connection: Upgrade',
      'Expect: 100-continue',
      'Content-Length: 5',
      'Content-Type: text/plain',
      'Host: y',
      ' folded',
      'No colon',
      'Bad name : x',
      'Tab:\tx',
      'Range: bytes=0-4',
      'Accept: a\rb',
    );
    const parts = fc.record({
      line: fc.constantFrom(
        'POST / HTTP/1.1',
        'POST /x HTTP/1.1',
        'POST  / HTTP/1.1',
        'post / HTTP/1.1',
        'POST / HTTP/1.0',
        'POST / HTTP/1.2',
        'POST x HTTP/1.1',
        'GET PATH HTTP/1.1',
        'GET PATH HTTP/1.0',
        'GET http://x/PATH HTTP/1.1',
      ),
      headers: fc.array(header, { maxLength: 3 }),
      end: fc.constantFrom('\r\n', '\r\n', '\r\n', '\n'),
      pieces: fc.integer({ min: 1, max: 3 }),
    });
    const octetsOf = (
      { line, headers, end }: { line: string; headers: string[]; end: string },
      extra: string[],
    ) => {
      const isGet = line.startsWith('GET');
      const own = isGet ? [] : ['Content-Type: application/ocsp-request', `Content-Length: ${body.length}`];
      const first = line.replace('PATH', `/${base64()}`);
      const head = [first, 'Host: x', ...own, ...headers, ...extra, '', ''].join(end);
      return head + (isGet ? '' : body.toString('latin1'));
    };
    let fast = 0;
    await fc.assert(
      fc.asyncProperty(parts, async (request) => {
        const plain = octetsOf(request, []);
        if (parseSimpleHead(plain.slice(0, plain.indexOf('\r\n\r\n')), 'application/ocsp-request')) fast += 1;
        const [ours] = await raw(plain, { pieces: request.pieces });
        // A header that the fast way does not know sends the same request by the other.
        const [theirs] = await raw(octetsOf(request, ['X-Other: 1']), { pieces: request.pieces });
        const said = (answer: Response | undefined) => (answer?.status === 200 ? kindOf(answer) : 'refused');
        expect(said(ours)).toBe(said(theirs));
      }),
      { numRuns: 150 },
    );
    expect(fast).toBeGreaterThan(5);
  });

  it('a client that says half a request is cut off, and one that reads no answers costs no more memory', async () => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.on('error', () => socket.destroy());
    const one = Buffer.from(post(body), 'latin1');
    // Far more than a connection's buffers hold: the rest waits with the client.
    const many = Buffer.concat(Array.from({ length: 1000 }, () => one));
    for (let i = 0; i < 200; i++) socket.write(many);
    await new Promise((done) => setTimeout(done, 500));
    expect(socket.writableLength).toBeGreaterThan(0);
    socket.destroy();
    expect((await raw(post(body))).map(kindOf)).toEqual(['signed']);
  });
});
