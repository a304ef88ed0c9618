import { readFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../ca/config/config.ts';
import { cardRequest, makeChipKey, until } from './support/actors.ts';
import {
  dataFolder,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from './support/harness.ts';

// Traces as a collector of OpenTelemetry receives them: OTLP over HTTP, JSON.

interface SentSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[];
  readonly status: { readonly code?: number };
}

/** What takes spans over a socket, and can be made to refuse them. */
class Collector {
  readonly spans: SentSpan[] = [];
  readonly paths = new Set<string>();
  status = 200;
  text = '';
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        this.paths.add(request.url ?? '');
        const text = Buffer.concat(parts).toString();
        this.text += text;
        if (this.status === 200) this.#take(text);
        response.writeHead(this.status, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  #take(text: string): void {
    const { resourceSpans } = JSON.parse(text) as {
      resourceSpans: { scopeSpans: { spans: SentSpan[] }[] }[];
    };
    for (const { scopeSpans } of resourceSpans) for (const { spans } of scopeSpans) this.spans.push(...spans);
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/traces`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  of(traceId: string): SentSpan[] {
    return this.spans.filter((span) => span.traceId === traceId);
  }
}

const collector = new Collector();
let test: TestService;
beforeAll(async () => {
  const url = await collector.listen();
  // Only what a caller traces.
  test = await startTestService({ folder: await dataFolder({ tracing: { url, sampled: 0 } }) });
});
afterEach(() => {
  collector.status = 200;
});
afterAll(async () => {
  await test.close();
  await collector.close();
  removeScratch();
});

let traces = 0;
const callersSpan = 'b7ad6b7169203331';
/** A caller's header, and the trace that it names. */
function callerTrace(flags = '01'): { traceId: string; header: Record<string, string> } {
  traces += 1;
  const traceId = `0af7651916cd43dd8448eb211c${traces.toString(16).padStart(6, '0')}`;
  return { traceId, header: { traceparent: `00-${traceId}-${callersSpan}-${flags}` } };
}

const send = async (path: string, body: object, headers: Record<string, string>) =>
  test.api.send<Record<string, unknown>>('POST', path, JSON.stringify(body), {
    'content-type': 'application/json',
    'idempotency-key': crypto.randomUUID(),
    ...headers,
  });

async function arrived(traceId: string): Promise<SentSpan[]> {
  await until('the request’s span arrives', async () =>
    collector.of(traceId).some(({ parentSpanId }) => parentSpanId === callersSpan),
  );
  return collector.of(traceId);
}

const attribute = (span: SentSpan | undefined, name: string): unknown =>
  Object.values(span?.attributes.find(({ key }) => key === name)?.value ?? {})[0];

describe('a request that its caller traces', () => {
  it('is one trace from its route through checks and signatures to the commit', async () => {
    const { traceId, header } = callerTrace();
    const [signing, authentication] = [await makeChipKey(), await makeChipKey()];
    const body = cardRequest({ signing, authentication }, { holderId: 'holder-t', cardId: 'card-t' });
    expect((await send('/card-certificates', body, header)).status).toBe(201);
    const spans = await arrived(traceId);
    const root = spans.find(({ parentSpanId }) => parentSpanId === callersSpan);
    expect(root?.name).toBe('POST /v1/card-certificates');
    expect(attribute(root, 'http.response.status_code')).toBe(201);
    expect(attribute(root, 'warifu.request_id')).toMatch(/^[0-9a-f-]{36}$/);
    const names = spans.filter(({ parentSpanId }) => parentSpanId === root?.spanId).map(({ name }) => name);
    expect(names.filter((name) => name === 'check request')).toHaveLength(2);
    expect(names.filter((name) => name === 'sign certificate')).toHaveLength(2);
    const commits = spans.filter(({ name }) => name.startsWith('commit '));
    expect(commits.length).toBeGreaterThan(0);
    for (const commit of commits) expect(attribute(commit, 'db.system.name')).toBe('sqlite');
    for (const span of spans)
      expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano));
    expect(test.log()).toContain(`"traceId":"${traceId}"`);
  });

  it('that revokes shows how long it waited for followers and nodes', async () => {
    const holder = await issueCard(test.api);
    const { traceId, header } = callerTrace();
    const event = { event: 'card-returned', cardId: holder.cardId };
    expect((await send('/events', event, header)).status).toBe(200);
    const names = (await arrived(traceId)).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['deliver feed', 'wait for nodes']));
  });

  it('and is refused says by which code, and nothing of what was sent', async () => {
    const { traceId, header } = callerTrace();
    const event = { event: 'card-returned', cardId: 'an-unknown-card' };
    expect((await send('/events', event, header)).status).toBe(404);
    const root = (await arrived(traceId)).find(({ parentSpanId }) => parentSpanId === callersSpan);
    expect(attribute(root, 'error.type')).toBe('not-found');
    expect(attribute(root, 'http.route')).toBe('/v1/events');
    for (const personal of ['an-unknown-card', 'holder-t', 'card-t', '花子', 'DESK00001'])
      expect(collector.text).not.toContain(personal);
  });
});

describe('a request whose caller goes away', () => {
  it('in the middle of its body is a span that says so', async () => {
    const { traceId, header } = callerTrace();
    const read = (name: string) => readFileSync(join(test.folder, name));
    const request = https.request(`${test.service.addresses.api}/v1/events`, {
      method: 'POST',
      ...{
        key: read('clients/first.key'),
        cert: read('clients/first.pem'),
        ca: read('tls/operations-ca.pem'),
      },
      headers: {
        'content-type': 'application/json',
        'content-length': 1000,
        'idempotency-key': 'gone',
        ...header,
      },
    });
    request.on('error', () => undefined);
    request.write('{"event":');
    await new Promise((resolve) => setTimeout(resolve, 300));
    request.destroy();
    const root = (await arrived(traceId)).find(({ parentSpanId }) => parentSpanId === callersSpan);
    expect(attribute(root, 'error.type')).toBe('aborted');
  });
});

describe('a request', () => {
  it.each([
    ['none', {}],
    ['one of a caller who does not trace', callerTrace('00').header],
    ['no header that W3C knows', { traceparent: '00-abc-def-01' }],
    ['one of zeros', { traceparent: `00-${'0'.repeat(32)}-${'0'.repeat(16)}-01` }],
  ])('with %s is traced by the share that is configured, here none', async (_what, headers) => {
    const before = collector.spans.length;
    expect((await send('/events', { event: 'none' }, headers as Record<string, string>)).status).toBe(400);
    const { traceId, header } = callerTrace();
    await send('/events', { event: 'none' }, header);
    await arrived(traceId);
    expect(collector.spans.slice(before).every((span) => span.traceId === traceId)).toBe(true);
  });

  it('is answered though the collector refuses, and the log says so once, with the act', async () => {
    collector.status = 400;
    for (let i = 0; i < 2; i++) {
      expect((await send('/events', { event: 'none' }, callerTrace().header)).status).toBe(400);
      await until('spans are refused', async () => test.log().includes('traces cannot be sent'));
    }
    expect(test.log().match(/traces cannot be sent/g)).toHaveLength(1);
    collector.status = 200;
    const { traceId, header } = callerTrace();
    await send('/events', { event: 'none' }, header);
    await arrived(traceId);
    await until('the log says so', async () => test.log().includes('traces are sent again'));
  });
});

describe('a service', () => {
  it.each([
    ['is not there', undefined],
    ['takes a request and never answers', () => undefined],
    [
      'answers octet by octet, without end',
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        const dripping = setInterval(() => response.write(' '), 200);
        response.once('close', () => clearInterval(dripping));
      },
    ],
  ])('whose collector %s starts, serves and stops as fast as ever', async (_what, answer) => {
    const server = createServer((_request, response) => answer?.(response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    if (!answer) await new Promise((resolve) => server.close(resolve));
    const url = `http://127.0.0.1:${port}/v1/traces`;
    const other = await startTestService({ folder: await dataFolder({ tracing: { url, sampled: 1 } }) });
    try {
      await issueCard(other.api);
      // An export is under way.
      await new Promise((resolve) => setTimeout(resolve, 1500));
    } finally {
      const beganMs = Date.now();
      await other.close();
      expect(Date.now() - beganMs).toBeLessThan(3000);
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    }
  });

  it.each([
    ['a name and a password', 'http://user:secret@127.0.0.1:4318/v1/traces'],
    ['a query', 'http://127.0.0.1:4318/v1/traces?key=secret'],
    ['a blank', 'http://x y/'],
    ['a port that there cannot be', 'http://127.0.0.1:99999/v1/traces'],
  ])('refuses an address of its collector with %s', (_what, url) => {
    expect(() => parseConfig({ tracing: { url } })).toThrow(/\/tracing\/url/);
  });

  it('refuses a CA of its collector that is not there, by its key', async () => {
    const folder = await dataFolder({
      tracing: { url: 'https://127.0.0.1:4318/v1/traces', sampled: 1, ca: 'no.pem' },
    });
    await expect(startTestService({ folder })).rejects.toThrow(/tracing\.ca: .*no\.pem/);
  });
});
