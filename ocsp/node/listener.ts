import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { durationMs } from '../../core/config/duration.ts';
import { type VerifierConfig, Verifiers } from '../../core/config/verifiers.ts';
import { verifierTlsMin } from '../../core/http/fast-path-server.ts';
import { closeServer, listen } from '../../core/http/listen.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { Responder } from '../answer.ts';
import type { OcspOptions } from '../config/options.ts';
import { type FeedTime, IndexReader, type IndexUpdate } from '../index/status-index.ts';
import type { ResponderPolicy } from '../sign/composer.ts';
import type { ResponderKey } from '../sign/issuers.ts';
import { WorkQueue } from '../sign/work-queue.ts';
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
  /** TLS for verifiers with a certificate, PEM; null without. */
  readonly tls: { readonly key: string; readonly cert: string; readonly ca: string } | null;
  /** Folder of the log of who asked. */
  readonly askedFolder: string;
  /** What this thread is called in file names. */
  readonly thread: number;
  /** Receives what was thrown while a request was served; that request has been answered by then. */
  readonly failed: (error: unknown) => void;
}

/** One thread's listener: sockets, responder and all that is between. */
export class Listener {
  readonly #reader: IndexReader;
  readonly #responder: Responder;
  readonly #queue: WorkQueue;
  readonly #server: OcspServer;
  readonly #verifiers: Verifiers;
  readonly #asked: QueryLog | null;
  readonly #servers: Server[] = [];
  readonly #config: OcspOptions;
  #tls: ListenerOptions['tls'];
  #tlsServer: TlsServer | undefined;
  #isTurning = false;

  constructor(options: ListenerOptions) {
    const { config, clock } = options;
    this.#config = config;
    this.#tls = options.tls;
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
    });
    this.#verifiers = new Verifiers(config.verifiers);
    this.#server = new OcspServer({
      responder: this.#responder,
      verifiers: this.#verifiers,
      clock,
      requestBytesMax: config.requestBytesMax,
      connectionsMax: config.connectionsMax,
      flushSoon: turn,
      failed: options.failed,
    });
  }

  get responder(): Responder {
    return this.#responder;
  }

  update(update: IndexUpdate): void {
    this.#reader.update(update);
    if (update.type === 'authority') this.#responder.authoritiesChanged();
  }

  /** Listens on every port there is: the public one, verifiers' own, and the one with TLS. */
  async listen(): Promise<void> {
    const { host, port, threads, verifiers } = this.#config;
    const ports = [port, ...verifiers.list.flatMap((verifier) => verifier.port ?? [])];
    const sharing = threads > 1 ? 'shared' : 'alone';
    const listenAt = async (server: Server, at: number): Promise<void> => {
      await listen(server, host, at, sharing);
      this.#servers.push(server);
    };
    for (const each of ports) await listenAt(this.#server.create(each), each);
    if (verifiers.tls && this.#tls) {
      const at = verifiers.tls.port;
      this.#tlsServer = this.#server.createTls(at, this.#tls);
      await listenAt(this.#tlsServer, at);
    }
  }

  /** From the next request on these verifiers are known, and from the next handshake on this TLS is shown. */
  setVerifiers(verifiers: VerifierConfig, tls: ListenerOptions['tls']): void {
    this.#verifiers.replace(verifiers);
    this.#tls = tls;
    if (tls) this.#tlsServer?.setSecureContext({ ...tls, minVersion: verifierTlsMin });
  }

  /** Accepts no more, answers what has been asked, and ends. */
  async close(): Promise<void> {
    const closing = this.#servers.map((server) => closeServer(server));
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
