import type { Gate, HealDepth, ModuleUser } from '../../core/crypto/signer.ts';
import { backOffMs } from '../../core/runtime/back-off.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';

/** Who asks again within so long was not helped. */
const helpedAfterMs = 5000;
/** Between two attempts once the module was initialized again; doubles with each. */
const pause = { firstMs: 500, mostMs: 4000 } as const;

/** All threads of this process that use one module, so that it can be opened again while none of them uses it. */
export class ModuleLock implements Gate {
  readonly #heal: (depth: HealDepth) => HealDepth;
  readonly #clock: Clock;
  readonly #users = new Set<ModuleUser>();
  #healing: Promise<void> | undefined;
  #healedMs = Number.NEGATIVE_INFINITY;
  /** Attempts in a row that did not help, the last one included. */
  #attempts = 0;
  #failure: unknown;

  /** `heal` opens tokens and sessions again; it may go deeper than requested. Throws `token-unavailable`. */
  constructor(heal: (depth: HealDepth) => HealDepth, clock: Clock) {
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
    const sinceMs = this.#clock.monotonicMs() - this.#healedMs;
    if (sinceMs >= helpedAfterMs) this.#attempts = 0;
    const waitMs = this.#attempts < 2 ? 0 : backOffMs(pause, this.#attempts - 1);
    if (sinceMs < waitMs) return Promise.reject(this.#failure ?? didNotHelp());
    const depth = this.#attempts === 0 ? 'sessions' : 'module';
    this.#attempts += 1;
    this.#healing = this.#healQuietly(depth).finally(() => {
      this.#healing = undefined;
    });
    return this.#healing;
  }

  async #healQuietly(asked: HealDepth): Promise<void> {
    await Promise.allSettled([...this.#users].map((user) => user.pause()));
    let depth: HealDepth = 'module';
    this.#failure = undefined;
    try {
      depth = this.#heal(asked);
    } catch (error) {
      this.#failure = error;
      // It went as far as it could: the next attempt waits.
      this.#attempts = Math.max(this.#attempts, 2);
      throw error;
    } finally {
      this.#healedMs = this.#clock.monotonicMs();
      for (const user of this.#users) user.resume(depth);
    }
  }
}

const didNotHelp = (): PkiError =>
  new PkiError('token-unavailable', 'the token was opened again just now, which did not help');
