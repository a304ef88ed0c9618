import { setTimeout as delay } from 'node:timers/promises';
import { Piscina } from 'piscina';

/** How long ending a pool waits for threads that still load: so many looks, milliseconds apart. */
const [looksMax, lookMs] = [500, 10];

/**
 * Threads that carry out tasks. It ends no thread that still loads: where one is terminated while it requires a module or an addon, Node
 * aborts the process (v26).
 */
export class ThreadPool<Task, Result> extends Piscina<Task, Result> {
  /** By thread id. */
  readonly #loaded = new Set<number>();

  /** As many threads as stated, from the beginning. */
  constructor(options: {
    readonly filename: URL;
    readonly threads: number;
    readonly tasksPerThread: number;
    readonly workerData?: unknown;
  }) {
    const { filename, threads, tasksPerThread, workerData } = options;
    super({
      filename: filename.href,
      ...{ minThreads: threads, maxThreads: threads, concurrentTasksPerWorker: tasksPerThread },
      ...{ atomics: 'disabled', workerData },
    });
    const first = new Set(this.threads.map(({ threadId }) => threadId));
    // Piscina calls the first ones ready before they are; their first message says that they have loaded.
    for (const thread of this.threads) {
      const { threadId } = thread;
      thread.once('message', () => this.#loaded.add(threadId));
    }
    this.on('workerCreate', ({ id }: { readonly id: number }) => {
      if (!first.has(id)) this.#loaded.add(id);
    });
  }

  /** Ends the threads once what they have begun is done. */
  override async close(...options: Parameters<Piscina['close']>): Promise<void> {
    await this.#untilLoaded();
    await super.close(...options);
  }

  /** Ends the threads, whatever they do. */
  override async destroy(): Promise<void> {
    await this.#untilLoaded();
    await super.destroy();
  }

  async #untilLoaded(): Promise<void> {
    const isLoading = (): boolean => this.threads.some(({ threadId }) => !this.#loaded.has(threadId));
    for (let looks = 0; looks < looksMax && isLoading(); looks += 1) await delay(lookMs);
  }
}
