import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { drainMs } from '../core/listen.ts';
import { httpDate } from './answer.ts';
import { Connection } from './connection.ts';
import { cachingHeaders, isUnchanged } from './http-answer.ts';
import { requestInPath } from './http-head.ts';
import type { Responder } from './responder.ts';
import type { Verifiers } from './verifiers.ts';

export interface ServerOptions {
  readonly responder: Responder;
  readonly verifiers: Verifiers;
  readonly clock: Clock;
  readonly requestBytesMax: number;
  readonly connectionsMax: number;
}

const limits = {
  requestTimeout: 10_000,
  headersTimeout: 10_000,
  keepAliveTimeout: 60_000,
  maxRequestsPerSocket: 0,
  noDelay: true,
};

/** OCSP over HTTP (RFC 6960 appendix A, RFC 5019 §5, §6), on any number of ports. */
export class OcspServer {
  readonly #options: ServerOptions;
  readonly #connections = new Set<Connection>();
  readonly #sweep: NodeJS.Timeout;
  #coarseMs: number;
  #answered: Connection[] = [];
  readonly #flushSoon: () => void;

  /** `flushSoon` has `flush` called at the end of this turn of the event loop. */
  constructor(options: ServerOptions & { readonly flushSoon: () => void }) {
    this.#options = options;
    this.#flushSoon = options.flushSoon;
    this.#coarseMs = options.clock.monotonicMs();
    this.#sweep = setInterval(() => {
      this.#coarseMs = options.clock.monotonicMs();
      for (const connection of this.#connections) connection.checkPatience(this.#coarseMs);
    }, 1000).unref();
  }

  /** A server to listen with. Simple requests are read here, all others by node:http. */
  create(port: number): Server {
    const server = createServer(limits, (request, response) => this.#respond(port, request, response));
    server.maxConnections = this.#options.connectionsMax;
    const onConnection = server.listeners('connection')[0] as (socket: Socket) => void;
    server.removeAllListeners('connection');
    const context = {
      ...this.#options,
      port,
      coarseMs: () => this.#coarseMs,
      flushSoon: (connection: Connection) => this.#willFlush(connection),
      handOver: (socket: Socket) => onConnection.call(server, socket),
    };
    server.on('connection', (socket: Socket) => {
      const connection = new Connection(socket, context, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
    return server;
  }

  /** The same for verifiers with a TLS certificate of their own. */
  createTls(
    port: number,
    tls: { readonly key: string; readonly cert: string; readonly ca: string },
  ): TlsServer {
    const mutual = { requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' } as const;
    const server = createTlsServer({ ...limits, ...tls, ...mutual }, (request, response) =>
      this.#respond(port, request, response),
    );
    server.maxConnections = this.#options.connectionsMax;
    return server;
  }

  /** Writes what has been answered. */
  flush(): void {
    const answered = this.#answered;
    this.#answered = [];
    for (const connection of answered) connection.flush();
  }

  /** Has connections end once they are answered. */
  close(): void {
    clearInterval(this.#sweep);
    for (const connection of this.#connections) connection.close();
    // Who does not read what we answer does not keep us from stopping.
    setTimeout(() => {
      for (const connection of this.#connections) connection.cutOff();
    }, drainMs).unref();
  }

  #willFlush(connection: Connection): void {
    this.#answered.push(connection);
    if (this.#answered.length === 1) this.#flushSoon();
  }

  #respond(port: number, request: IncomingMessage, response: ServerResponse): void {
    respond({ ...this.#options, port }, request, response).catch(() => {
      // What fails here is the connection, or is ours; the client learns no more than that.
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  }
}

async function respond(
  { responder, verifiers, clock, requestBytesMax, port }: ServerOptions & { readonly port: number },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method, socket, url = '/' } = request;
  const identified = verifiers.identify({
    port,
    path: url,
    certificate: fingerprintOf(socket),
  });
  if (!identified) return refuse(response, 403);
  if (method === 'POST') {
    if (request.headers['content-type'] !== 'application/ocsp-request') return refuse(response, 415);
    const body = await readBody(request, requestBytesMax);
    if (!body) return refuse(response, 413);
    const { der } = await responder.answer(body, identified.verifier);
    const headers = { 'Content-Type': 'application/ocsp-response', 'Content-Length': der.length };
    response.writeHead(200, { ...headers, 'Cache-Control': 'no-store' }).end(der);
    return;
  }
  if (method === 'GET' || method === 'HEAD') {
    const encoded = requestInPath(identified.path);
    if (identified.path.length > requestBytesMax) return refuse(response, 414);
    const answer = await responder.answer(encoded, identified.verifier);
    const nowMs = clock.wallMs();
    const caching = { Date: httpDate(nowMs), ...cachingHeaders(answer, nowMs) };
    if (isUnchanged(answer, request.headers['if-none-match'])) {
      response.writeHead(304, caching).end();
      return;
    }
    const headers = { 'Content-Type': 'application/ocsp-response', 'Content-Length': answer.der.length };
    response.writeHead(200, { ...headers, ...caching }).end(method === 'HEAD' ? undefined : answer.der);
    return;
  }
  response.setHeader('Allow', 'GET, HEAD, POST');
  refuse(response, 405);
}

function fingerprintOf(socket: Socket): string | null {
  const certificate = (socket as Partial<TLSSocket>).getPeerX509Certificate?.();
  return certificate?.fingerprint256.replaceAll(':', '').toLowerCase() ?? null;
}

function refuse(response: ServerResponse, status: number): void {
  // The rest of a refused body is not read.
  response.writeHead(status, { 'Content-Length': 0, Connection: 'close' }).end();
}

async function readBody(request: IncomingMessage, max: number): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > max) return undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > max) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
