import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';

// What one caller may have of the API at a time, so that none keeps the others waiting. Invariants:
//
// - A connection from an address that has too many, or makes too many, is closed before its handshake costs anything.
// - Of each kind of work one client has so many at once, and several together so many; what is beyond waits, and clients take turns.
// - What takes trust away has a lane of its own: it waits for nothing but what the same client does there.
// - What waits is bounded, of each client and in all: beyond it is refused, 429 or 503.

/** Kinds of work: what takes trust away; what reads much of the record; everything else. */
export type Lane = 'revocation' | 'scan' | 'work';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `work` where nothing else is said. */
    lane?: Lane;
  }
}

type Limits = Config['limits'];

/** What of one kind of work is under way, and waits. */
class Turns {
  /** Asked each time: they may be taken up while the service runs. */
  readonly #bounds: () => { readonly perClient: number; readonly inAll: number };
  readonly #waitingMax: () => { readonly client: number; readonly all: number };
  readonly #running = new Map<string, number>();
  /** Clients that wait, in the order of their turns. */
  readonly #waiting = new Map<string, (() => void)[]>();
  #runningInAll = 0;
  #waits = 0;

  constructor(limits: () => Limits, bounds: (of: Limits) => { perClient: number; inAll: number }) {
    this.#bounds = () => bounds(limits());
    this.#waitingMax = () => limits().waiting;
  }

  /** Resolves when it is the client's turn. Throws `rate-exceeded` or `overloaded` where too many wait. */
  async enter(client: string): Promise<void> {
    if (this.#mayRun(client) && !this.#waiting.has(client)) return this.#run(client);
    const queue = this.#waiting.get(client) ?? [];
    if (queue.length >= this.#waitingMax().client)
      throw new PkiError(
        'rate-exceeded',
        'too many requests of this client wait already: send fewer at once',
      );
    if (this.#waits >= this.#waitingMax().all)
      throw new PkiError('overloaded', 'too many requests wait already; try again');
    this.#waiting.set(client, queue);
    this.#waits += 1;
    await new Promise<void>((resolve) => queue.push(resolve));
  }

  leave(client: string): void {
    const running = (this.#running.get(client) ?? 0) - 1;
    if (running > 0) this.#running.set(client, running);
    else this.#running.delete(client);
    this.#runningInAll -= 1;
    this.#next();
  }

  #mayRun(client: string): boolean {
    const { perClient, inAll } = this.#bounds();
    const isFree = this.#runningInAll < inAll || this.#isAlone(client);
    return isFree && (this.#running.get(client) ?? 0) < perClient;
  }

  /** Whether no other client runs or waits: then there is no one to be kept waiting. */
  #isAlone(client: string): boolean {
    const others = (of: ReadonlyMap<string, unknown>): number => of.size - (of.has(client) ? 1 : 0);
    return others(this.#running) + others(this.#waiting) === 0;
  }

  #run(client: string): void {
    this.#running.set(client, (this.#running.get(client) ?? 0) + 1);
    this.#runningInAll += 1;
  }

  /** Gives turns to who waits: who has had one goes behind the others. */
  #next(): void {
    for (const [client, queue] of [...this.#waiting]) {
      if (!this.#mayRun(client)) continue;
      const begin = queue.shift();
      this.#waiting.delete(client);
      if (queue.length > 0) this.#waiting.set(client, queue);
      if (!begin) continue;
      this.#waits -= 1;
      this.#run(client);
      begin();
    }
  }
}

/** What comes so many times a second, and so many at once. */
class Rate {
  #tokens: number;
  #atMs: number;

  constructor(atOnce: number, nowMs: number) {
    this.#tokens = atOnce;
    this.#atMs = nowMs;
  }

  /** Milliseconds until one of now may go on; it counts. */
  take(perSecond: number, atOnce: number, nowMs: number): number {
    this.#tokens = Math.min(atOnce, this.#tokens + ((nowMs - this.#atMs) * perSecond) / 1000);
    this.#atMs = nowMs;
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : (-this.#tokens * 1000) / perSecond;
  }

  /** Takes one back that was refused. */
  giveBack(): void {
    this.#tokens += 1;
  }
}

/** How long a request waits for its client's rate, before it is refused. */
const rateWaitMs = 2000;
/** How long a connection may stand still. */
const unreadMs = 120_000;
/** Clients whose rates are remembered. */
const ratesMax = 20_000;

/** The lanes of a service. */
export class Lanes {
  readonly #limits: () => Limits;
  readonly #turns: Readonly<Record<Lane, Turns>>;
  readonly #rates = new Map<string, Rate>();

  constructor(config: Pick<Config, 'limits'>) {
    const limits = () => config.limits;
    this.#limits = limits;
    this.#turns = {
      revocation: new Turns(limits, ({ atOnce }) => ({
        perClient: atOnce.client,
        inAll: Number.POSITIVE_INFINITY,
      })),
      scan: new Turns(limits, ({ scansAtOnce: { client, all } }) => ({ perClient: client, inAll: all })),
      work: new Turns(limits, ({ atOnce: { client, all } }) => ({ perClient: client, inAll: all })),
    };
  }

  /** Has a request wait for its turn; gives what ends it. Throws `rate-exceeded` or `overloaded`. */
  async enter(client: string, lane: Lane): Promise<() => void> {
    // What takes trust away is delayed by no rate.
    if (lane !== 'revocation') await this.#await(client);
    const turns = this.#turns[lane];
    await turns.enter(client);
    return () => turns.leave(client);
  }

  async #await(client: string): Promise<void> {
    const nowMs = systemClock.monotonicMs();
    const { requestsPerSecond } = this.#limits();
    const rate = this.#rates.get(client) ?? new Rate(requestsPerSecond, nowMs);
    // The one that asked last is kept longest.
    this.#rates.delete(client);
    this.#rates.set(client, rate);
    const [oldest] = this.#rates.keys();
    if (this.#rates.size > ratesMax && oldest !== undefined) this.#rates.delete(oldest);
    const waitMs = rate.take(requestsPerSecond, requestsPerSecond, nowMs);
    if (waitMs === 0) return;
    if (waitMs > rateWaitMs) rate.giveBack();
    // One that is refused is answered late, too: it would only ask again.
    await new Promise((resolve) => setTimeout(resolve, Math.min(waitMs, rateWaitMs)));
    if (waitMs > rateWaitMs)
      throw new PkiError('rate-exceeded', `more than ${requestsPerSecond} requests a second of one client`);
  }
}

/** Requests of one connection that have no answer yet. */
const perConnectionMax = 16;

/**
 * Has each request wait for its turn once it has arrived, so that a slow one takes no other's, and before anything is done for it; the turn
 * ends with the work, whether its answer is read or not. What is requested within the process waits for none.
 */
export function keepLanes(app: FastifyInstance, lanes: Lanes): void {
  const unanswered = new WeakMap<Socket, number>();
  const turns = new WeakMap<FastifyRequest, () => void>();
  const end = (request: FastifyRequest): void => {
    turns.get(request)?.();
    turns.delete(request);
  };
  // One who does not read its answers holds no more than its connection, and not for long.
  app.server.setTimeout(unreadMs);
  app.addHook('preValidation', async (request, reply) => {
    const { socket } = request.raw;
    const { streams, lasts, lane = 'work' } = request.routeOptions.config;
    // What lasts has bounds of its own.
    if (request.caller === null || !('authorized' in socket) || streams || lasts) return;
    const count = unanswered.get(socket) ?? 0;
    unanswered.set(socket, count + 1);
    reply.raw.once('close', () => unanswered.set(socket, (unanswered.get(socket) ?? 1) - 1));
    const isDry = (request.body as { dryRun?: unknown } | null | undefined)?.dryRun === true;
    const { client } = request.caller.actor;
    try {
      if (count >= perConnectionMax)
        throw new PkiError('rate-exceeded', 'too many requests of this connection wait for their answers');
      const leave = await lanes.enter(client, isDry ? 'work' : lane);
      turns.set(request, leave);
    } catch (error) {
      void reply.header('Retry-After', '1');
      throw error;
    }
    // Also where the caller is gone before it is answered.
    if (reply.raw.closed || reply.raw.destroyed) end(request);
    else reply.raw.once('close', () => end(request));
  });
  app.addHook('onSend', async (request, _reply, payload) => {
    end(request);
    return payload;
  });
}

/** Connections are known by both of their ends: TLS wraps what was accepted. */
const nameOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

/** An address as its connections are counted: of IPv6 the network of a site (/64). */
export function siteOf({ remoteAddress = '' }: Pick<Socket, 'remoteAddress'>): string {
  if (!remoteAddress.includes(':') || remoteAddress.startsWith('::ffff:')) return remoteAddress;
  return (remoteAddress.split('::')[0] ?? '').split(':').slice(0, 4).join(':');
}

/** Sites whose rates are remembered. */
const sitesMax = 50_000;

/**
 * Closes connections beyond what their address, and all together, may have; before their handshake. Those that have shown no certificate yet
 * have a share of their own, out of which the oldest goes: strangers take no place of clients.
 */
export function limitConnections(app: FastifyInstance, config: Pick<Config, 'limits'>): void {
  const open = new Map<string, number>();
  const rates = new Map<string, Rate>();
  /** Without a certificate so far, the oldest first. */
  const strangers = new Map<string, Socket>();
  let clients = 0;
  app.server.prependListener('connection', (socket: Socket) => {
    const { all, handshakes, perAddress, newPerSecond, newAtOnce } = config.limits.connections;
    const [site, name] = [siteOf(socket), nameOf(socket)];
    const rate = rates.get(site) ?? new Rate(newAtOnce, systemClock.monotonicMs());
    rates.delete(site);
    rates.set(site, rate);
    const [oldestSite] = rates.keys();
    if (rates.size > sitesMax && oldestSite !== undefined) rates.delete(oldestSite);
    const isTooFast = rate.take(newPerSecond, newAtOnce, systemClock.monotonicMs()) > 0;
    if (isTooFast) rate.giveBack();
    const count = open.get(site) ?? 0;
    if (isTooFast || count >= perAddress || clients >= all) {
      socket.destroy();
      return;
    }
    open.set(site, count + 1);
    strangers.set(name, socket);
    const [oldest] = strangers;
    if (oldest && strangers.size > handshakes) {
      strangers.delete(oldest[0]);
      oldest[1].destroy();
    }
    socket.once('close', () => {
      strangers.delete(name);
      const left = (open.get(site) ?? 1) - 1;
      if (left > 0) open.set(site, left);
      else open.delete(site);
    });
  });
  app.server.on('secureConnection', (socket: TLSSocket) => {
    strangers.delete(nameOf(socket));
    clients += 1;
    socket.once('close', () => {
      clients -= 1;
    });
  });
}
