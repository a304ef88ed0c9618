import { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import type { ConfirmingFollower, FeedCursor } from './feed.ts';

/** So long at least between two lines, milliseconds: what comes meanwhile is confirmed at once. */
const everyMs = 10;

/** What a follower says over one connection to its CA: who it is, and then how far it has come. */
export class Confirmations {
  readonly #lines: AsyncIterable<Buffer>;
  #applied: FeedCursor['positions'] | undefined;
  #news = Promise.withResolvers<void>();

  constructor(
    { key, answersForMs }: ConfirmingFollower,
    cursor: FeedCursor | undefined,
    signal: AbortSignal,
  ) {
    this.#lines = this.#run({ follower: key, answersForMs, cursor: cursor ?? null }, signal);
    signal.addEventListener('abort', () => this.#news.resolve(), { once: true });
  }

  /** The body of the request. */
  get body(): Readable {
    return Readable.from(this.#lines, { objectMode: false });
  }

  applied(positions: FeedCursor['positions']): void {
    this.#applied = positions;
    this.#news.resolve();
  }

  async *#run(first: object, signal: AbortSignal): AsyncIterable<Buffer> {
    yield lineOf(first);
    while (!signal.aborted) {
      await this.#news.promise;
      this.#news = Promise.withResolvers();
      const applied = this.#applied;
      this.#applied = undefined;
      if (signal.aborted || !applied) continue;
      yield lineOf({ applied });
      await setTimeout(everyMs);
    }
  }
}

const lineOf = (value: object): Buffer => Buffer.from(`${JSON.stringify(value)}\n`);
