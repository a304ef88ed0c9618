import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Clock } from './clock.ts';
import { Connection, type SimpleHandler } from './connection.ts';
import { drainMs } from './listen.ts';

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
}

/** HTTP for one thread, on any number of ports: simple requests are read by us, all others by node:http. */
export class SimpleServer<Target, Answer> {
  readonly #options: SimpleServerOptions;
  readonly #connections = new Set<Connection<Target, Answer>>();
  readonly #sweep: NodeJS.Timeout;
  #coarseMs: number;
  #answered: Connection<Target, Answer>[] = [];

  constructor(options: SimpleServerOptions) {
    this.#options = options;
    this.#coarseMs = options.clock.monotonicMs();
    this.#sweep = setInterval(() => {
      this.#coarseMs = options.clock.monotonicMs();
      for (const connection of this.#connections) connection.checkPatience(this.#coarseMs);
    }, 1000).unref();
  }

  /** A server to listen with. */
  create(handler: SimpleHandler<Target, Answer>, respond: Respond): Server {
    const server = createServer(limits, guarded(respond));
    server.maxConnections = this.#options.connectionsMax;
    const onConnection = server.listeners('connection')[0] as (socket: Socket) => void;
    server.removeAllListeners('connection');
    const context = {
      handler,
      coarseMs: () => this.#coarseMs,
      flushSoon: (connection: Connection<Target, Answer>) => this.#willFlush(connection),
      handOver: (socket: Socket) => onConnection.call(server, socket),
    };
    server.on('connection', (socket: Socket) => {
      const connection = new Connection(socket, context, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
    return server;
  }

  /** The same for clients with a TLS certificate of their own; all by node:http. */
  createTls(
    tls: { readonly key: string; readonly cert: string; readonly ca: string },
    respond: Respond,
  ): TlsServer {
    const mutual = { requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' } as const;
    const server = createTlsServer({ ...limits, ...tls, ...mutual }, guarded(respond));
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

  #willFlush(connection: Connection<Target, Answer>): void {
    this.#answered.push(connection);
    if (this.#answered.length > 1) return;
    if (this.#options.flushSoon) this.#options.flushSoon();
    else setImmediate(() => this.flush());
  }
}

/** What fails is the connection, or is ours; the client learns no more than that. */
function guarded(respond: Respond): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    respond(request, response).catch(() => {
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  };
}
