import type { Logger } from 'pino';
import type { Clock } from '../core/clock.ts';
import { type Config, durationMs } from '../core/config.ts';
import type { Attempt, Message, OutboxStore } from '../core/outbox-store.ts';
import { type Delivery, reasonOf } from './delivery.ts';

/** Messages that are under way at once. */
const atOnce = 64;
/** How often it is looked up whether something is due. */
const reviewMs = 250;

/**
 * Delivers what is in the outbox, each at least once: what failed is tried again, later and later, until it is given up
 * visibly; an order that nobody confirms is sent again. A process that dies between an answer and its note has it sent
 * twice, under the same `messageId`.
 */
export class Outbox {
  readonly #store: OutboxStore;
  readonly #delivery: Delivery;
  readonly #config: Config['notices'];
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: {
    readonly store: OutboxStore;
    readonly delivery: Delivery;
    readonly config: Config['notices'];
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#store = options.store;
    this.#delivery = options.delivery;
    this.#config = options.config;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#timer = setInterval(() => this.#wake(), reviewMs).unref();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#running;
    await this.#delivery.close();
  }

  #wake(): void {
    if (this.#isStopped) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async #run(): Promise<void> {
    try {
      for (let more = true; more && !this.#isStopped; ) {
        const due = await this.#store.due(atOnce);
        if (due.length > 0)
          await this.#store.settle(await Promise.all(due.map((each) => this.#attempt(each))));
        more = due.length === atOnce;
      }
    } catch (error) {
      this.#logger.error({ reason: (error as Error).message }, 'the outbox is held up');
    }
  }

  async #attempt(message: Message): Promise<Attempt> {
    const { messageId, type } = message;
    const nowMs = this.#clock.wallMs();
    if (!this.#delivery.canReach(message)) {
      const dueMs = nowMs + durationMs(this.#config.retryMost);
      return {
        messageId,
        state: 'waiting',
        error: 'no such destination is configured',
        dueMs,
        counts: false,
      };
    }
    try {
      await this.#delivery.deliver(message);
      const dueMs = type === 'remote-deletion' ? nowMs + durationMs(this.#config.confirmWithin) : null;
      return { messageId, state: 'delivered', error: null, dueMs, counts: true };
    } catch (error) {
      return this.#failed(message, reasonOf(error), nowMs);
    }
  }

  #failed({ messageId, attempts, type, state }: Message, error: string, nowMs: number): Attempt {
    const { attemptsMax, retryFirst, retryMost } = this.#config;
    if (attempts + 1 >= attemptsMax) {
      this.#logger.error({ messageId, type, error }, 'ALARM: a message is given up');
      return { messageId, state: 'dead', error, dueMs: null, counts: true };
    }
    const waitMs = Math.min(durationMs(retryFirst) * 2 ** attempts, durationMs(retryMost));
    // Spread, so that a receiver that comes back is not met by all at once.
    const dueMs = nowMs + Math.round(waitMs * (0.75 + Math.random() / 2));
    return { messageId, state: state === 'delivered' ? 'delivered' : 'waiting', error, dueMs, counts: true };
  }
}
