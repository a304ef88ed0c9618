import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';

/** Longest queue and largest commit. A commit is one wait for the disk, so waiting writers share it. */
const waitingMax = 10_000;
const commitMax = 128;
/**
 * A commit of so many writers is a sign of more to come: the next one gathers as many, for as long as the last one took, and so long at
 * most. So few writers never wait for many.
 */
const manyWriters = 4;
const gatherMsMax = 30;

/** A writer that waits for its commit. */
interface Waiting {
  /** Called where it cannot be committed. */
  fail(error: unknown): void;
}

/**
 * Lets writers that wait share a commit, one commit after the other. While one is under way the next one gathers; under load it gathers for
 * some milliseconds more. Bounded: a writer beyond is failed with `overloaded`.
 */
export class CommitQueue<Member extends Waiting> {
  readonly #clock: Clock;
  readonly #commit: (group: readonly Member[]) => Promise<void>;
  #waiting: Member[] = [];
  #draining: Promise<void> | undefined;
  #gathering: { readonly count: number; readonly enough: () => void } | undefined;

  /** `commit` settles every member of a group, and does not reject. */
  constructor(options: {
    readonly clock: Clock;
    readonly commit: (group: readonly Member[]) => Promise<void>;
  }) {
    this.#clock = options.clock;
    this.#commit = options.commit;
  }

  push(member: Member): void {
    if (this.#waiting.length >= waitingMax) {
      member.fail(new PkiError('overloaded', 'too many writes are waiting for the record'));
      return;
    }
    this.#waiting.push(member);
    this.#draining ??= this.#drain();
    if (this.#gathering && this.#waiting.length >= this.#gathering.count) this.#gathering.enough();
  }

  /** Resolves once nothing waits. */
  async settled(): Promise<void> {
    await this.#draining;
  }

  async #drain(): Promise<void> {
    // Calls of one turn of the event loop share the first commit.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const group = this.#waiting.slice(0, commitMax);
      this.#waiting = this.#waiting.slice(group.length);
      const beganMs = this.#clock.monotonicMs();
      await this.#commit(group);
      const tookMs = this.#clock.monotonicMs() - beganMs;
      if (group.length >= manyWriters) await this.#gather(group.length, Math.min(gatherMsMax, tookMs));
    }
    this.#draining = undefined;
  }

  /** Waits until so many wait, but not for long. */
  async #gather(count: number, ms: number): Promise<void> {
    if (this.#waiting.length >= count) return;
    const enough = Promise.withResolvers<void>();
    this.#gathering = { count, enough: enough.resolve };
    const timer = setTimeout(enough.resolve, ms);
    await enough.promise;
    clearTimeout(timer);
    this.#gathering = undefined;
  }
}
