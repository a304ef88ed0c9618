import type { Logger } from 'pino';

/**
 * What the log says of an act that is repeated: once for each reason that it fails for, and once that it succeeds again. What cannot be done for
 * an hour is not said ten thousand times.
 */
export class FailureLog {
  readonly #logger: Pick<Logger, 'error' | 'info'>;
  readonly #failure: string;
  readonly #more: object;
  #said: string | undefined;

  /** `failure`: a constant message; `more`: fields of each line about it. */
  constructor(logger: Pick<Logger, 'error' | 'info'>, failure: string, more: object = {}) {
    this.#logger = logger;
    this.#failure = failure;
    this.#more = more;
  }

  failed(error: unknown): void {
    const { message: reason } = error as Error;
    if (reason !== this.#said) this.#logger.error({ ...this.#more, reason }, this.#failure);
    this.#said = reason;
  }

  succeeded(): void {
    if (this.#said !== undefined)
      this.#logger.info({ ...this.#more, failure: this.#failure }, 'what failed before succeeds again');
    this.#said = undefined;
  }

  /** Whether the act has succeeded. Never rejects. */
  async watch(act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      this.succeeded();
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }
}
