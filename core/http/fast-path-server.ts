import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../runtime/clock.ts';
import { Connection, type SimpleHandler } from './connection.ts';
import { drainMs } from './listen.ts';
import { Metered, Turns } from './meter.ts';
import type { Arrival } from './verifier-register.ts';

/** Oldest version of TLS that verifiers with a certificate may speak. */
export const verifierTlsMin = 'TLSv1.2';

const limits = {
  requestTimeout: 10_000,
  headersTimeout: 10_000,
  keepAliveTimeout: 60_000,
  maxRequestsPerSocket: 0,
  noDelay: true,
};

/** Answers what is not in a simple form. What it throws is answered 500. */
export type Respond = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export interface SimpleServerOptions {
  readonly clock: Clock;
  readonly connectionsMax: number;
  /** Has `flush` called soon; default: at the end of this turn of the event loop. */
  readonly flushSoon?: () => void;
  /** Receives what was thrown while a request was served. The request, or its connection, has ended by then. */
  readonly failed: (error: unknown) => void;
}

/** HTTP for one thread, on any number of ports: simple requests are read by us, all others by node:http. */
export class FastPathServer<Target, Answer> {
  readonly #options: SimpleServerOptions;
  readonly #connections = new Set<Connection<Target, Answer>>();
  readonly #sweep: NodeJS.Timeout;
  readonly #turns: Turns;
  readonly #metered = new WeakMap<Duplex, Metered>();
  #coarseMs: number;
  #unsent = 0;
  #answered: Connection<Target, Answer>[] = [];

  constructor(options: SimpleServerOptions) {
    this.#options = options;
    this.#coarseMs = options.clock.monotonicMs();
    this.#turns = new Turns(options.clock);
    this.#sweep = setInterval(() => {
      this.#coarseMs = options.clock.monotonicMs();
      for (const connection of this.#connections) connection.checkTimeout(this.#coarseMs);
    }, 1000).unref();
  }

  /** A server to listen with. */
  create(handler: SimpleHandler<Target, Answer>, respond: Respond): Server {
    const server = createServer(limits, this.#guarded(respond));
    this.#prepare(server);
    const onConnection = server.listeners('connection')[0] as (socket: Socket) => void;
    server.removeAllListeners('connection');
    const context = {
      handler,
      coarseMs: () => this.#coarseMs,
      flushSoon: (connection: Connection<Target, Answer>) => this.#willFlush(connection),
      handOver: (socket: Socket) => {
        onConnection.call(server, socket);
        this.#meter(socket);
      },
      failed: this.#options.failed,
      unsentChanged: (by: 1 | -1) => {
        this.#unsent += by;
      },
    };
    server.on('connection', (socket: Socket) => {
      const connection = new Connection(socket, context, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
    return server;
  }

  /** The same over TLS, for clients with or without a certificate; all by node:http. */
  createTls(
    tls: { readonly key: string; readonly cert: string; readonly ca: string },
    respond: Respond,
  ): TlsServer {
    // One that TLS does not accept is none: see `certificateOf`.
    const mutual = { requestCert: true, rejectUnauthorized: false, minVersion: verifierTlsMin } as const;
    const server = createTlsServer({ ...limits, ...tls, ...mutual }, this.#guarded(respond));
    this.#prepare(server);
    server.on('secureConnection', (socket) => this.#meter(socket));
    return server;
  }

  #meter(socket: Socket): void {
    this.#metered.set(socket, new Metered(socket, this.#turns));
  }

  /** Whether an answer may lie in this process that the kernel has not taken whole: its octets must not change. */
  get hasUnsent(): boolean {
    return this.#unsent > 0;
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
    // A client that does not read its answer does not keep the service from stopping.
    setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, drainMs).unref();
  }

  #willFlush(connection: Connection<Target, Answer>): void {
    this.#answered.push(connection);
    if (this.#answered.length > 1) return;
    if (this.#options.flushSoon) this.#options.flushSoon();
    else setImmediate(() => this.flush());
  }

  #prepare(server: Server | TlsServer): void {
    server.maxConnections = this.#options.connectionsMax;
    acceptHalfClosed(server);
    server.on('clientError', (error, socket) =>
      refuseUnreadable(error, socket, this.#options.clock.wallMs()),
    );
  }

  /** What fails is the connection, or is ours; the client learns no more than that. */
  #guarded(respond: Respond): (request: IncomingMessage, response: ServerResponse) => void {
    return (request, response) => {
      const connection = this.#metered.get(request.socket);
      connection?.asked();
      response.once('close', () => connection?.answered());
      respond(request, response).catch((error: NodeJS.ErrnoException) => {
        // The client went away while its request was read: nothing failed.
        if (error.code !== 'ECONNRESET') this.#options.failed(error);
        if (response.headersSent) response.destroy();
        else response.writeHead(500, refusalHeaders).end();
      });
    };
  }
}

/** SHA-256 of the certificates that connections showed, hex. */
const certificates = new WeakMap<Socket, string | null>();

/** SHA-256 of the certificate that a client has shown, hex; null where it has shown none that the CA of verifiers has issued. */
export function certificateOf(socket: Socket): string | null {
  const known = certificates.get(socket);
  if (known !== undefined) return known;
  const { authorized, getPeerX509Certificate } = socket as Partial<TLSSocket>;
  const shown = authorized === true ? getPeerX509Certificate?.call(socket) : undefined;
  const found = shown?.fingerprint256.replaceAll(':', '').toLowerCase() ?? null;
  certificates.set(socket, found);
  return found;
}

/** How a request came in, for `VerifierRegister.identify`. */
export const arrivalOf = (socket: Socket, port: number, path: string): Arrival => ({
  port,
  path,
  certificate: certificateOf(socket),
  isProtected: 'encrypted' in socket,
});

/** Headers of an answer that has no body and must not be kept: caches may keep a 404 for as long as they like. */
export const refusalHeaders = { 'Content-Length': 0, 'Cache-Control': 'no-store' } as const;

/** Answers what was sent before a client ended its side of the connection (RFC 9112 §9.3.2, §9.6). */
export function acceptHalfClosed(server: object): void {
  // A property of node:http that its types do not list.
  Object.assign(server, { httpAllowHalfOpen: true });
}

const unreadable: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/** Answers octets that are no HTTP request, and ends the connection; not in the middle of another answer. */
export function refuseUnreadable(error: NodeJS.ErrnoException, socket: Duplex, nowMs: number): void {
  const answering = (socket as { _httpMessage?: { headersSent: boolean } })._httpMessage;
  if (!socket.writable || answering?.headersSent || error.code === 'ECONNRESET') {
    socket.destroy(error);
    return;
  }
  const status = unreadable[error.code ?? ''] ?? 400;
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Date: ${new Date(nowMs).toUTCString()}`,
    'Connection: close',
    'Content-Length: 0',
    'Cache-Control: no-store',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n`, () => socket.destroy());
}
