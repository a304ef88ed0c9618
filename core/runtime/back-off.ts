/** How long to wait before another attempt: twice as long after each that failed, up to a limit. */
export class BackOff {
  readonly #firstMs: number;
  readonly #mostMs: number;
  #nextMs: number;

  constructor({ firstMs, mostMs }: { readonly firstMs: number; readonly mostMs: number }) {
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
    this.#nextMs = firstMs;
  }

  /** An attempt has failed: milliseconds until the next. */
  failed(): number {
    const waitMs = this.#nextMs;
    this.#nextMs = Math.min(waitMs * 2, this.#mostMs);
    return waitMs;
  }

  succeeded(): void {
    this.#nextMs = this.#firstMs;
  }
}
