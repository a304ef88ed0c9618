export interface BackOffTimes {
  readonly firstMs: number;
  readonly mostMs: number;
}

/** How long to wait after so many attempts that failed, one after the other: twice as long after each, up to a limit. */
export const backOffMs = ({ firstMs, mostMs }: BackOffTimes, failed: number): number =>
  Math.min(firstMs * 2 ** (failed - 1), mostMs);

/** Counts attempts for `backOffMs`. */
export class BackOff {
  readonly #times: BackOffTimes;
  #failed = 0;

  constructor(times: BackOffTimes) {
    this.#times = times;
  }

  /** An attempt has failed: milliseconds until the next. */
  failed(): number {
    this.#failed += 1;
    return backOffMs(this.#times, this.#failed);
  }

  succeeded(): void {
    this.#failed = 0;
  }
}
