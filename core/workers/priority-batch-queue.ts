import { PkiError } from '../runtime/errors.ts';

/** Items that one message to a worker carries: enough to make it cheap, few enough to share out evenly. */
const batchMax = 16;
/** Messages a worker has at once: while it works on one the next lies ready, however long this thread is busy. */
export const messagesEach = 2;

/** One kind of work for a set of workers. */
export interface LaneOptions<Item, Result> {
  /** What goes before what: a lane with a lower number is emptied first. */
  readonly rank: number;
  /** Items that may wait; beyond it callers get `overloaded`. */
  readonly waitingMax: number;
  /** Says of what there is too much. */
  readonly what: string;
  /** Items of one batch at most, where that is fewer than of others. */
  readonly batchMax?: number;
  /** Hands a batch to a worker: a result for each item, in order. What it throws rejects every item of the batch. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
}

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Work for a few workers, in lanes. What comes while all workers are busy gathers, so that each message to a worker
 * carries several items; what comes while they are idle waits for the end of the turn of the event loop and is shared
 * out among them. Of lanes of one rank each has its turn.
 */
export class PriorityBatchQueue {
  readonly #workers: number;
  readonly #lanes: Lane<unknown, unknown>[] = [];
  #busy = 0;
  #woken = false;

  /** `workers` take `messagesEach` messages at once. */
  constructor(workers: number) {
    this.#workers = workers * messagesEach;
  }

  open<Item, Result>(options: LaneOptions<Item, Result>): Lane<Item, Result> {
    const lane = new Lane(options, () => this.#wake());
    this.#lanes.push(lane as unknown as Lane<unknown, unknown>);
    this.#lanes.sort((a, b) => a.rank - b.rank);
    return lane;
  }

  /** Items of all lanes that wait. */
  get waiting(): number {
    return this.#lanes.reduce((sum, { waiting }) => sum + waiting, 0);
  }

  #wake(): void {
    if (this.#woken || this.#busy >= this.#workers) return;
    this.#woken = true;
    setImmediate(() => {
      this.#woken = false;
      this.#share();
    });
  }

  #share(): void {
    while (this.#busy < this.#workers) {
      const lane = this.#lanes.find(({ waiting }) => waiting > 0);
      if (!lane) return;
      // Behind those of its rank: each has its turn.
      this.#lanes.splice(this.#lanes.indexOf(lane), 1);
      const next = this.#lanes.findIndex(({ rank }) => rank > lane.rank);
      this.#lanes.splice(next < 0 ? this.#lanes.length : next, 0, lane);
      this.#busy += 1;
      const share = Math.ceil(lane.waiting / (this.#workers - this.#busy + 1));
      void lane.work(Math.min(lane.batchMax, share)).finally(() => {
        this.#busy -= 1;
        this.#share();
      });
    }
  }
}

/** One kind of work, in a bounded queue of its own. */
export class Lane<Item, Result> {
  readonly #options: LaneOptions<Item, Result>;
  readonly #wake: () => void;
  readonly #waiting: Waiting<Item, Result>[] = [];

  constructor(options: LaneOptions<Item, Result>, wake: () => void) {
    this.#options = options;
    this.#wake = wake;
  }

  get rank(): number {
    return this.#options.rank;
  }

  get batchMax(): number {
    return this.#options.batchMax ?? batchMax;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Has one item worked on. Rejects with `overloaded`, with the signal's reason, or with what its worker says. */
  do(item: Item, signal?: AbortSignal): Promise<Result> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { waitingMax, what } = this.#options;
    if (this.#waiting.length >= waitingMax)
      return Promise.reject(new PkiError('overloaded', `too many ${what}`));
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.push({ item, signal, resolve, reject });
      this.#wake();
    });
  }

  /** Takes so many of what waits and has them worked on; settles when they are. */
  async work(count: number): Promise<void> {
    const batch = this.#waiting.splice(0, count).filter(({ signal, reject }) => {
      if (signal?.aborted) reject(signal.reason);
      return !signal?.aborted;
    });
    if (batch.length === 0) return;
    try {
      const results = await this.#options.run(batch.map(({ item }) => item));
      for (const [i, { resolve, reject }] of batch.entries()) {
        if (i < results.length) resolve(results[i] as Result);
        else reject(new PkiError('internal', 'a result is missing from a batch'));
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
