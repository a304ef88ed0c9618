import type { Logger } from 'pino';
import type { Clock } from '../../core/runtime/clock.ts';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import { workOff } from '../../core/runtime/steps.ts';
import type { Nodes } from '../../store/api/nodes.ts';
import type { BulkOperation, OperationsStore } from '../../store/api/operations-store.ts';

/** How often it is looked up whether something was approved, or was left by a process before. */
const reviewMs = 250;

/** Has the notices and orders of what was approved written, step by step, from where they stand: also what an earlier process had begun. */
export class BulkOperations {
  readonly #store: OperationsStore;
  readonly #nodes: Pick<Nodes, 'does'>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #failures: FailureLog;
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  /** What held an operation up, as it was logged last. */
  #said: string | undefined;

  constructor(options: {
    readonly store: OperationsStore;
    readonly nodes: Pick<Nodes, 'does'>;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#store = options.store;
    this.#nodes = options.nodes;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#failures = new FailureLog(options.logger, 'bulk operations cannot be looked up');
    this.#timer = setInterval(() => this.wake(), reviewMs).unref();
    this.wake();
  }

  /** Something may have been approved. */
  wake(): void {
    if (this.#stopping.signal.aborted || !this.#nodes.does('duties')) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Ends once the step under way is done; the rest is for the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#running;
  }

  async #run(): Promise<void> {
    const running: BulkOperation[] = [];
    await this.#failures.watch(async () => running.push(...(await this.#store.runningActs())));
    for (const { actId } of running) {
      // It stands where it stood, and goes on at the next review.
      await this.#carryOut(actId).catch((error: Error) => this.#heldUp(actId, error.message));
    }
  }

  /** It is tried again four times a second, and said once for each reason. */
  #heldUp(actId: string, reason: string): void {
    if (this.#said === `${actId} ${reason}`) return;
    this.#said = `${actId} ${reason}`;
    this.#logger.error({ actId, reason }, 'a bulk operation is held up');
  }

  #carryOut(actId: string): Promise<void> {
    const step = async (): Promise<boolean> => {
      const { operation, altered } = await this.#store.advance(actId);
      if (altered.length > 0)
        this.#logger.error(
          { actId, certificates: altered },
          'ALARM: a bulk operation passed over certificates whose rows were altered',
        );
      return operation.state === 'running' && this.#nodes.does('duties');
    };
    return workOff(step, { clock: this.#clock, signal: this.#stopping.signal });
  }
}
