import type { Clock } from '../core/clock.ts';
import type { Gate, ModuleUser } from '../core/signer.ts';

/** After an attempt to heal that failed. */
const healPauseMs = 500;

/** All threads of this process that use one module, so that it can be initialized again while none of them does. */
export class ModuleGate implements Gate {
  readonly #heal: () => void;
  readonly #clock: Clock;
  readonly #users = new Set<ModuleUser>();
  #healing: Promise<void> | undefined;
  #failure: { atMs: number; error: unknown } = { atMs: Number.NEGATIVE_INFINITY, error: undefined };

  /** `heal` opens tokens and sessions anew; it may initialize the module again. Throws `token-unavailable`. */
  constructor(heal: () => void, clock: Clock) {
    this.#heal = heal;
    this.#clock = clock;
  }

  join(user: ModuleUser): () => void {
    this.#users.add(user);
    // Who comes while the module is being healed waits like the others.
    if (this.#healing) void user.pause();
    return () => this.#users.delete(user);
  }

  heal(): Promise<void> {
    if (this.#healing) return this.#healing;
    if (this.#clock.monotonicMs() - this.#failure.atMs < healPauseMs)
      return Promise.reject(this.#failure.error);
    this.#healing = this.#healQuietly().finally(() => {
      this.#healing = undefined;
    });
    return this.#healing;
  }

  async #healQuietly(): Promise<void> {
    await Promise.allSettled([...this.#users].map((user) => user.pause()));
    try {
      this.#heal();
    } catch (error) {
      this.#failure = { atMs: this.#clock.monotonicMs(), error };
      throw error;
    } finally {
      for (const user of this.#users) user.resume();
    }
  }
}
