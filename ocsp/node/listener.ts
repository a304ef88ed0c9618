import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { durationMs } from '../../core/config/duration.ts';
import { type ShownTls, verifierRules } from '../../core/config/verifiers.ts';
import { verifierTlsMin } from '../../core/http/fast-path-server.ts';
import { closeServer, listen } from '../../core/http/listen.ts';
import { VerifierRegister } from '../../core/http/verifier-register.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { Responder } from '../answer.ts';
import type { OcspOptions } from '../config/options.ts';
import { type FeedTime, IndexReader, type IndexUpdate } from '../index/index-reader.ts';
import type { ResponderPolicy } from '../sign/composer.ts';
import type { ResponderKey } from '../sign/issuers.ts';
import { WorkQueue } from '../sign/work-queue.ts';
import type { countsOf } from './answer-counts.ts';
import { QueryLog } from './query-log.ts';
import { OcspServer } from './server.ts';

/** Time for signatures between two looks at the network. */
const sliceMs = 2;

export interface ListenerOptions {
  readonly config: OcspOptions;
  readonly clock: Clock;
  readonly time: FeedTime;
  readonly keys: readonly ResponderKey[];
  /** Signatures under way at once: one where signing blocks the thread. */
  readonly concurrency: number;
  /** What verifiers are shown over TLS. */
  readonly tls: ShownTls;
  /** Folder of the log of who asked. */
  readonly askedFolder: string;
  /** What this thread is called in file names. */
  readonly thread: number;
  /** Counts what is answered. */
  readonly counts: ReturnType<typeof countsOf>;
  /** Receives what was thrown while a request was served; that request has been answered by then. */
  readonly failed: (error: unknown) => void;
  /** Receives why a verifier's own port cannot be listened at; all others are. */
  readonly portRefused: (port: number, error: unknown) => void;
}

/** One thread's listener: sockets, responder and all that is between. */
export class Listener {
  readonly #reader: IndexReader;
  readonly #responder: Responder;
  readonly #queue: WorkQueue;
  readonly #server: OcspServer;
  readonly #verifiers: VerifierRegister;
  readonly #asked: QueryLog | null;
  readonly #servers: Server[] = [];
  /** Servers at verifiers' own ports. */
  readonly #own = new Map<number, Server>();
  readonly #portRefused: ListenerOptions['portRefused'];
  /** Verifiers' ports that cannot be had: each is reported once. */
  readonly #refused = new Set<number>();
  #config: OcspOptions;
  #tls: ShownTls;
  #tlsServer: TlsServer | undefined;
  #isListening = false;
  #isTurning = false;

  constructor(options: ListenerOptions) {
    const { config, clock } = options;
    this.#config = config;
    this.#tls = options.tls;
    this.#portRefused = options.portRefused;
    this.#reader = new IndexReader(options.time, clock);
    const turn = (): void => this.#turnSoon();
    this.#queue = new WorkQueue({
      waitingMax: config.waitingMax,
      concurrency: options.concurrency,
      sliceMs,
      clock,
      wake: turn,
    });
    const asked = config.verifiers.log
      ? new QueryLog({ folder: options.askedFolder, thread: options.thread, clock })
      : null;
    this.#asked = asked;
    this.#responder = new Responder({
      index: this.#reader,
      keys: options.keys,
      clock,
      policy: policyOf(config),
      queue: this.#queue,
      waitingMax: config.waitingMax,
      asked: asked && ((entry) => asked.add(entry)),
      failed: options.failed,
      kept: options.counts.kept,
    });
    const { threads } = config;
    this.#verifiers = new VerifierRegister({ rules: verifierRules(config.verifiers), clock, threads });
    this.#server = new OcspServer({
      responder: this.#responder,
      verifiers: this.#verifiers,
      isPrivate: () => this.#config.verifiers.required,
      fromFront: () => this.#config.verifiers.fromFront,
      clock,
      requestBytesMax: config.requestBytesMax,
      connectionsMax: config.connectionsMax,
      flushSoon: turn,
      failed: options.failed,
      answered: options.counts.answered,
      isLate: () => this.#responder.isLate,
    });
  }

  get responder(): Responder {
    return this.#responder;
  }

  /** Resolves once requests are answered by it. */
  async update(update: IndexUpdate): Promise<void> {
    if (update.type === 'verifier') {
      this.#verifiers.update(update.verifier);
      if (this.#isListening) await this.#listenAtPorts();
      return;
    }
    this.#reader.update(update);
    if (update.type === 'authority') this.#responder.authoritiesChanged();
  }

  /** Listens on every port there is: the public one, the one with TLS, and verifiers' own. */
  async listen(): Promise<void> {
    const { port, verifiers } = this.#config;
    this.#servers.push(await this.#listenAt(this.#server.create(port), port));
    if (verifiers.tls && this.#tls) {
      const at = verifiers.tls.port;
      this.#tlsServer = this.#server.createTls(at, this.#tls);
      this.#servers.push(await this.#listenAt(this.#tlsServer, at));
    }
    this.#isListening = true;
    await this.#listenAtPorts();
  }

  async #listenAt<S extends Server>(server: S, at: number): Promise<S> {
    const { host, threads } = this.#config;
    await listen(server, host, at, threads > 1 ? 'shared' : 'alone');
    return server;
  }

  /** Listens at the ports that verifiers have now, and at no other of theirs. */
  async #listenAtPorts(): Promise<void> {
    const { port, verifiers } = this.#config;
    const wanted = new Set(this.#verifiers.ports);
    // A verifier at the port of all would be everyone.
    for (const taken of [port, verifiers.tls?.port])
      if (taken !== undefined && wanted.delete(taken))
        this.#refuse(taken, new Error('this responder listens there for others'));
    for (const port of this.#refused) if (!wanted.has(port)) this.#refused.delete(port);
    for (const [at, server] of this.#own) {
      if (wanted.has(at)) continue;
      this.#own.delete(at);
      await closeServer(server);
    }
    for (const at of wanted) {
      if (this.#own.has(at)) continue;
      const server = this.#server.create(at);
      this.#own.set(at, server);
      await this.#listenAt(server, at).catch((error: unknown) => {
        this.#own.delete(at);
        this.#refuse(at, error);
      });
      if (this.#own.has(at)) this.#refused.delete(at);
    }
  }

  #refuse(port: number, error: unknown): void {
    if (!this.#refused.has(port)) this.#portRefused(port, error);
    this.#refused.add(port);
  }

  /** From the next request on it goes by these rules, and from the next handshake on this TLS is shown. */
  setVerifiers(verifiers: OcspOptions['verifiers'], tls: ShownTls): void {
    this.#config = { ...this.#config, verifiers };
    this.#verifiers.setRules(verifierRules(verifiers));
    this.#tls = tls;
    if (tls) this.#tlsServer?.setSecureContext({ ...tls, minVersion: verifierTlsMin });
  }

  /** Accepts no more, answers what has been asked, and ends. */
  async close(): Promise<void> {
    this.#isListening = false;
    const closing = [...this.#servers, ...this.#own.values()].map((server) => closeServer(server));
    this.#server.close();
    await Promise.all(closing);
    await this.#asked?.close();
  }

  #turnSoon(): void {
    if (this.#isTurning) return;
    this.#isTurning = true;
    // Behind everything that can be read now, so that what is asked in one turn is signed and written together.
    setImmediate(() => {
      this.#isTurning = false;
      this.#queue.run();
      this.#server.flush();
    });
  }
}

export function policyOf(config: OcspOptions): ResponderPolicy {
  return {
    responseValidityMs: durationMs(config.responseValidity),
    backdateMs: durationMs(config.backdate),
    feedLagMsMax: durationMs(config.feedLagMax),
    signedAnswersForMs: durationMs(config.signedAnswersFor),
    archiveRetentionMs: config.archiveRetention === undefined ? null : durationMs(config.archiveRetention),
    neverIssued: config.neverIssued,
    nonceUnderOverload: config.nonceUnderOverload,
    cacheOctetsMax: config.cacheBytes,
  };
}
