import { Worker } from 'node:worker_threads';
import type { Clock } from '../../core/runtime/clock.ts';

/** How often the log is brought into the file while it grows. */
const everyMs = 500;

/** Has a thread bring the log of a record into its file, now and then, never twice at once. */
export class Checkpointer {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #ended: Promise<void>;
  #lastMs: number;
  #busy = false;

  constructor(file: string, clock: Clock) {
    this.#clock = clock;
    this.#lastMs = clock.monotonicMs();
    this.#worker = new Worker(new URL('./checkpoint-thread.ts', import.meta.url), { workerData: { file } });
    this.#worker.unref();
    this.#worker.on('message', () => {
      this.#busy = false;
    });
    // Without it the writing connection brings the log over by itself, when it is long.
    this.#ended = new Promise((resolve) => {
      this.#worker.once('error', () => resolve());
      this.#worker.once('exit', () => resolve());
    });
  }

  /** Called after commits. */
  written(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#busy || nowMs - this.#lastMs < everyMs) return;
    this.#busy = true;
    this.#lastMs = nowMs;
    this.#worker.postMessage('checkpoint');
  }

  async close(): Promise<void> {
    this.#worker.ref();
    this.#worker.postMessage('close');
    await this.#ended;
  }
}
