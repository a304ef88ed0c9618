import type { Clock } from '../../core/runtime/clock.ts';

/** A piece of work that ends in a signature. Never throws and never rejects: what goes wrong is answered. */
export type Work = () => undefined | Promise<void>;

/** Pieces that are done before they are let go of, all at once. */
const compactAt = 256;
/** Pieces of work between two looks at the clock. */
const clockEvery = 4;
/** Refreshments that may wait: more would be done too late to be of use. */
const laterMax = 4096;

/**
 * What waits for signatures in one thread, bounded. It is worked on a slice at a time, so that between two slices the
 * thread reads new requests and answers those it can answer at once.
 */
export class WorkQueue {
  readonly #waitingMax: number;
  readonly #concurrency: number;
  readonly #sliceMs: number;
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #waiting: Work[] = [];
  #next = 0;
  readonly #later: Work[] = [];
  #underWay = 0;

  constructor(options: {
    /** Pieces that may wait; beyond it `add` refuses. */
    readonly waitingMax: number;
    /** Pieces under way at once, where signing does not block the thread. */
    readonly concurrency: number;
    readonly sliceMs: number;
    readonly clock: Clock;
    /** Asks for `run` to be called soon. */
    readonly wake: () => void;
  }) {
    this.#waitingMax = options.waitingMax;
    this.#concurrency = options.concurrency;
    this.#sliceMs = options.sliceMs;
    this.#clock = options.clock;
    this.#wake = options.wake;
  }

  get waiting(): number {
    return this.#waiting.length - this.#next;
  }

  /** Takes work on; false where there is too much of it already. */
  add(work: Work): boolean {
    if (this.waiting >= this.#waitingMax) return false;
    this.#waiting.push(work);
    this.#wake();
    return true;
  }

  /** Work for when nothing else waits; false where there is too much of it. */
  addLater(work: Work): boolean {
    if (this.#later.length >= laterMax) return false;
    this.#later.push(work);
    this.#wake();
    return true;
  }

  /** One slice. */
  run(): void {
    const deadline = this.#clock.monotonicMs() + this.#sliceMs;
    for (let done = 1; this.#underWay < this.#concurrency; done++) {
      const work = this.#take();
      if (!work) return;
      const ending = work();
      if (ending) void this.#follow(ending);
      if (done % clockEvery === 0 && this.#clock.monotonicMs() >= deadline) break;
    }
    if (this.#underWay < this.#concurrency && (this.waiting > 0 || this.#later.length > 0)) this.#wake();
  }

  async #follow(ending: Promise<void>): Promise<void> {
    this.#underWay += 1;
    await ending;
    this.#underWay -= 1;
    if (this.waiting > 0 || this.#later.length > 0) this.#wake();
  }

  #take(): Work | undefined {
    const work = this.#waiting[this.#next];
    if (!work) return this.#later.shift();
    this.#next += 1;
    // What is done is let go of, also under a load that never lets the queue run empty.
    if (this.#next === this.#waiting.length || this.#next >= compactAt) {
      this.#waiting.splice(0, this.#next);
      this.#next = 0;
    }
    return work;
  }
}
