import type { Logger } from 'pino';
import type { OperationsStore } from '../../store/api/operations-store.ts';

/** Phones of one transaction: few enough that a single revocation hardly waits. */
const phonesAtOnce = 750;
/** Turns that wait for each other, so that followers receive one while the next is under way. */
const inFlight = 2;
/** How often it is looked up whether something was approved, or was left by a process before. */
const reviewMs = 250;

/** Carries out what was approved, bit by bit, from where it stands: also what an earlier process had begun. */
export class BulkOperations {
  readonly #store: OperationsStore;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;
  #notifying: Promise<void> = Promise.resolve();
  /** What held an operation up, as it was logged last. */
  #said: string | undefined;

  constructor(store: OperationsStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
    this.#timer = setInterval(() => this.wake(), reviewMs).unref();
    this.wake();
  }

  /** Something may have been approved. */
  wake(): void {
    if (this.#isStopped) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Ends once the bits under way are done; the rest is for the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#running;
  }

  async #run(): Promise<void> {
    const running = await this.#store.runningActs().catch((error: Error) => {
      this.#logger.error({ reason: error.message }, 'bulk operations cannot be looked up');
      return [];
    });
    for (const { actId } of running) {
      const bits = await Promise.allSettled(Array.from({ length: inFlight }, () => this.#carryOut(actId)));
      const notified = await Promise.allSettled([this.#notifying]);
      const failed = [...bits, ...notified].find((result) => result.status === 'rejected');
      // It stands where it stood, and goes on at the next review.
      if (failed) this.#heldUp(actId, (failed.reason as Error).message);
      this.#notifying = Promise.resolve();
    }
  }

  /** It is tried again four times a second, and said once for each reason. */
  #heldUp(actId: string, reason: string): void {
    if (this.#said === `${actId} ${reason}`) return;
    this.#said = `${actId} ${reason}`;
    this.#logger.error({ actId, reason }, 'a bulk operation is held up');
  }

  async #carryOut(actId: string): Promise<void> {
    while (!this.#isStopped) {
      const { operation, altered } = await this.#store.advance(actId, phonesAtOnce);
      if (altered.length > 0)
        this.#logger.error(
          { actId, certificates: altered },
          'ALARM: a bulk operation passed over certificates whose rows were altered',
        );
      await this.#tell();
      if (operation.state !== 'running') return;
    }
  }

  /** Notifies followers, one time after the other: they are never further behind than by one notification. */
  async #tell(): Promise<void> {
    const before = this.#notifying;
    this.#notifying = before.then(() => this.#store.deliver());
    // Callers that wait for it get the error.
    this.#notifying.catch(() => undefined);
    await Promise.allSettled([before]);
  }
}
