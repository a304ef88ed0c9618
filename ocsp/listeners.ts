import { createServer } from 'node:http';
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { Bytes } from '../core/bytes.ts';
import { PkiError } from '../core/errors.ts';
import { closeServer, listen } from '../core/listen.ts';
import type { Gate, ModuleUser } from '../core/signer.ts';
import type { StatusIndex } from './status-index.ts';
import type { FromThread, ThreadKey, ThreadStart, Told } from './thread-messages.ts';

/** Room for what a thread makes and forgets: with the default, much of it is taken for something that lasts. */
const youngMiB = 128;
/** Before a thread that died is started again. */
const restartMs = 200;

type Answers = readonly (Bytes | null)[];

type StartOf = Omit<ThreadStart, 'keys' | 'thread' | 'time'>;

/** A listening thread, seen from the main one. */
class ListenerThread implements ModuleUser {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answers>>();
  #ids = 0;
  #hasEnded = false;
  /** Settles when the thread has ended: rejects with what ended it, where nobody asked it to. */
  readonly ended: Promise<void>;

  constructor(start: ThreadStart, heal: () => Promise<void>) {
    this.#worker = new Worker(new URL('./listener-thread.ts', import.meta.url), {
      workerData: start,
      resourceLimits: { maxYoungGenerationSizeMb: youngMiB },
    });
    this.#worker.on('message', (message: FromThread) => {
      if (message.type === 'heal') void heal().then(() => this.tell({ type: 'healed' }));
      else this.#settle(message.id, message.failure, message.answers);
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => resolve());
    });
    // Nobody waits for a thread that is gone.
    const release = (): void => {
      this.#hasEnded = true;
      for (const id of this.#waiting.keys()) this.#settle(id, null, []);
    };
    this.ended.then(release, release);
  }

  /** Resolves once it is so, or the thread is gone. */
  tell(told: Told): Promise<Answers> {
    if (this.#hasEnded) return Promise.resolve([]);
    this.#ids += 1;
    const waiting = Promise.withResolvers<Answers>();
    this.#waiting.set(this.#ids, waiting);
    this.#worker.postMessage({ ...told, id: this.#ids });
    return waiting.promise;
  }

  async pause(): Promise<void> {
    await this.tell({ type: 'pause' });
  }

  resume(): void {
    void this.tell({ type: 'resume' });
  }

  async close(): Promise<void> {
    await this.tell({ type: 'close' });
    await this.ended;
  }

  #settle(id: number, failure: string | null, answers: Answers): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (failure === null) waiting?.resolve(answers);
    else waiting?.reject(new PkiError('internal', failure));
  }
}

/** The listening threads of a responder: one port, one index, and each its own cache and sessions. */
export class Listeners {
  readonly #start: StartOf;
  readonly #index: StatusIndex;
  readonly #gate: Gate;
  readonly #logger: Logger;
  readonly #threads = new Map<number, { thread: ListenerThread; forget: () => void }>();
  #keys: readonly ThreadKey[];
  #isClosing = false;

  private constructor(options: ListenersOptions) {
    const { index, gate, logger, keys, ...start } = options;
    this.#index = index;
    this.#gate = gate;
    this.#logger = logger;
    this.#keys = keys;
    this.#start = start;
  }

  /** Resolves when every thread listens. Rejects where the port cannot be had. */
  static async start(options: ListenersOptions): Promise<Listeners> {
    const listeners = new Listeners(options);
    const { host, port, threads } = options.config;
    // Threads that share a port would share it with another process's too: it must be free first.
    const probe = createServer();
    await listen(probe, host, port);
    await closeServer(probe);
    try {
      await Promise.all(Array.from({ length: threads }, (_, i) => listeners.#begin(i)));
    } catch (error) {
      await listeners.close();
      throw error;
    }
    return listeners;
  }

  get address(): string {
    const { host, port } = this.#start.config;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  async setKeys(keys: readonly ThreadKey[]): Promise<void> {
    this.#keys = keys;
    await this.#tellAll({ type: 'keys', keys });
  }

  /**
   * Has answers signed before anybody asks: in each thread, for each keeps its own, or in one where it is the octets that
   * are wanted. Returns them; null for none.
   */
  async presign(requests: readonly Bytes[], where: 'each thread' | 'one thread'): Promise<Answers> {
    const told: Told = { type: 'presign', requests };
    const [first] = this.#threads.values();
    const [answers = []] =
      where === 'each thread' ? await this.#tellAll(told) : [(await first?.thread.tell(told)) ?? []];
    return answers;
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    const all = [...this.#threads.values()];
    this.#threads.clear();
    await Promise.all(
      all.map(async ({ thread, forget }) => {
        await thread.close();
        forget();
      }),
    );
  }

  #tellAll(told: Told): Promise<Answers[]> {
    return Promise.all([...this.#threads.values()].map(({ thread }) => thread.tell(told)));
  }

  async #begin(number: number): Promise<void> {
    const thread = new ListenerThread(
      { ...this.#start, keys: this.#keys, time: this.#index.time, thread: number },
      // A failure is for those who asked for signatures, and they are told.
      () => this.#gate.heal().catch(() => undefined),
    );
    const forgets = [this.#gate.join(thread)];
    const forget = (): void => {
      for (const each of forgets) each();
    };
    // Before anything is waited for, so that whatever is told to all reaches this one too.
    this.#threads.set(number, { thread, forget });
    void this.#watch(number, thread);
    forgets.push(
      await this.#index.subscribe(async (update) => {
        await thread.tell({ type: 'update', update });
      }),
    );
    await thread.tell({ type: 'listen' });
  }

  /** A thread that dies takes nobody with it: its connections are lost, and another begins in its place. */
  async #watch(number: number, thread: ListenerThread): Promise<void> {
    let reason = 'it ended';
    try {
      await thread.ended;
    } catch (error) {
      reason = (error as Error).message;
    }
    if (this.#isClosing) return;
    this.#threads.get(number)?.forget();
    this.#threads.delete(number);
    this.#logger.error({ reason }, 'a listening thread died');
    await new Promise((done) => setTimeout(done, restartMs));
    if (this.#isClosing) return;
    await this.#begin(number).catch((error: Error) => {
      // A thread that cannot listen is of no use: it is ended, and what watches it begins anew.
      this.#logger.error({ reason: error.message }, 'a listening thread cannot begin');
      void this.#threads.get(number)?.thread.close();
    });
  }
}

export interface ListenersOptions extends StartOf {
  readonly index: StatusIndex;
  readonly gate: Gate;
  readonly logger: Logger;
  readonly keys: readonly ThreadKey[];
}
