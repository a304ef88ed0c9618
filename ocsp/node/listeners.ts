import type { Logger } from 'pino';
import type { Gate, HealDepth, ModuleUser } from '../../core/crypto/signer.ts';
import { probePort } from '../../core/http/listen.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { WorkerClient, WorkerSupervisor } from '../../core/workers/worker.ts';
import type { OcspOptions } from '../config/options.ts';
import type { StatusIndex } from '../index/status-index.ts';
import { type AnswerCounts, roomForCounts, sumOfCounts } from './answer-counts.ts';
import type { Answers, ThreadKey, ThreadMessage, ThreadStart } from './thread-messages.ts';

/** Room for what a thread makes and forgets: with the default, much of it is taken for something that lasts. */
const youngMiB = 128;

type StartOf = Omit<ThreadStart, 'keys' | 'thread' | 'time' | 'counts'>;

/** A listening thread, seen from the main one. */
class ListenerThread implements ModuleUser {
  readonly #thread: WorkerClient<ThreadMessage, Answers>;
  readonly ended: Promise<void>;

  constructor(start: ThreadStart, heal: () => Promise<void>) {
    this.#thread = new WorkerClient({
      script: new URL('./listener-thread.ts', import.meta.url),
      start,
      resourceLimits: { maxYoungGenerationSizeMb: youngMiB },
      // All it says of itself is that the token failed, and a new session did not help.
      onMessage: () => void heal().then(() => this.send({ type: 'healed' })),
    });
    this.ended = this.#thread.ended;
  }

  async send(message: ThreadMessage): Promise<Answers> {
    return (await this.#thread.request(message)) ?? [];
  }

  async pause(): Promise<void> {
    await this.send({ type: 'pause' });
  }

  resume(depth: HealDepth): void {
    void this.send({ type: 'resume', depth });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}

/** The listening threads of a responder: one port, one index, and each its own cache and sessions. */
export class Listeners {
  #start: StartOf;
  readonly #group: WorkerSupervisor<ListenerThread>;
  #keys: readonly ThreadKey[];
  readonly #counts: SharedArrayBuffer;

  private constructor(options: ListenersOptions) {
    const { index, gate, logger, keys, ...start } = options;
    this.#keys = keys;
    this.#start = start;
    this.#counts = roomForCounts(start.config.threads);
    const forgets = new Map<ListenerThread, (() => void)[]>();
    this.#group = new WorkerSupervisor({
      logger,
      begin: (number) => {
        const thread = new ListenerThread(
          { ...this.#start, keys: this.#keys, time: index.time, thread: number, counts: this.#counts },
          // A failure is for those who asked for signatures, and reaches them.
          () => gate.heal().catch(() => undefined),
        );
        forgets.set(thread, [gate.join(thread)]);
        const forget = (): void => {
          for (const each of forgets.get(thread) ?? []) each();
          forgets.delete(thread);
        };
        return { thread, forget };
      },
      settle: async ({ thread }) => {
        const unsubscribe = await index.subscribe(async (update) => {
          await thread.send({ type: 'update', update });
        });
        forgets.get(thread)?.push(unsubscribe);
        await thread.send({ type: 'listen' });
      },
    });
  }

  /** Resolves when every thread listens. Rejects where the port cannot be had. */
  static async start(options: ListenersOptions): Promise<Listeners> {
    const listeners = new Listeners(options);
    const { host, port, threads } = options.config;
    await probePort(host, port);
    await listeners.#group.start(threads);
    return listeners;
  }

  get address(): string {
    const { host, port } = this.#start.config;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** What was answered since the start. */
  get answered(): AnswerCounts {
    return sumOfCounts(this.#counts);
  }

  async setKeys(keys: readonly ThreadKey[]): Promise<void> {
    this.#keys = keys;
    await this.#sendAll({ type: 'keys', keys });
  }

  async setVerifiers(verifiers: OcspOptions['verifiers'], tls: ThreadStart['tls']): Promise<void> {
    this.#start = { ...this.#start, config: { ...this.#start.config, verifiers }, tls };
    await this.#sendAll({ type: 'verifiers', verifiers, tls });
  }

  /**
   * Has answers signed before anybody asks: in each thread, for each keeps its own, or in one where it is the octets that
   * are wanted. Returns them; null for none.
   */
  async presign(requests: readonly Bytes[], where: 'each thread' | 'one thread'): Promise<Answers> {
    const message: ThreadMessage = { type: 'presign', requests };
    const [first] = this.#group.threads;
    const [answers = []] =
      where === 'each thread' ? await this.#sendAll(message) : [(await first?.send(message)) ?? []];
    return answers;
  }

  close(): Promise<void> {
    return this.#group.close();
  }

  #sendAll(message: ThreadMessage): Promise<Answers[]> {
    return Promise.all(this.#group.threads.map((thread) => thread.send(message)));
  }
}

export interface ListenersOptions extends StartOf {
  readonly index: StatusIndex;
  readonly gate: Gate;
  readonly logger: Logger;
  readonly keys: readonly ThreadKey[];
}
