import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import { backOffMs } from '../../core/runtime/back-off.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import { settled } from '../../core/runtime/settled.ts';
import type { Nodes } from '../../store/api/nodes.ts';
import { type Attempt, isOrder, type Message, type OutboxStore } from '../../store/api/outbox-store.ts';
import type { Config } from '../config/config.ts';
import { type Delivery, reasonOf } from './delivery.ts';

/** Messages that are under way to one destination at once. */
const atOnce = 16;
/** How often it is looked up whether something is due. */
const reviewMs = 250;
/** How long a message is left of which it could not be written what became of it, and how many there may be. */
const restMs = 30_000;
const restingMax = 1000;

/**
 * Delivers what is in the outbox, each at least once: what failed is tried again, later and later; a notice is given up in
 * the end, visibly, an order never; and an order that is not confirmed is sent again. A process that dies between an answer
 * and its note has it sent twice, under the same `messageId`. A destination that is slow holds up no other.
 */
export class Outbox {
  readonly #store: OutboxStore;
  readonly #delivery: Delivery;
  readonly #config: Config['notices'];
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #nodes: Pick<Nodes, 'does'>;
  readonly #failures: FailureLog;
  readonly #timer: NodeJS.Timeout;
  readonly #underWay = new Map<string, Map<string, Promise<void>>>();
  /** Messages of which it could not be written what became of them: until when they are left, monotonic milliseconds. */
  readonly #resting = new Map<string, number>();
  /** When what is due longest became due, by destination: wall-clock milliseconds. */
  readonly #due = new Map<string, number>();
  readonly #attempts = new Map<'delivered' | 'failed' | 'given-up', number>();
  #reviewing: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: {
    readonly store: OutboxStore;
    readonly delivery: Delivery;
    readonly config: Config['notices'];
    readonly clock: Clock;
    readonly logger: Logger;
    readonly nodes: Pick<Nodes, 'does'>;
  }) {
    this.#store = options.store;
    this.#delivery = options.delivery;
    this.#config = options.config;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#nodes = options.nodes;
    this.#failures = new FailureLog(options.logger, 'the outbox is held up');
    this.#timer = setInterval(() => this.#wake(), reviewMs).unref();
  }

  /** Ends soon: what is under way is cut off, stays due, and is sent again by the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#delivery.abort();
    await this.#reviewing;
    await Promise.all([...this.#underWay.values()].flatMap((messages) => [...messages.values()]));
    await this.#delivery.close();
  }

  /** Messages that were sent since the start, by outcome. */
  get attempts(): ReadonlyMap<string, number> {
    return this.#attempts;
  }

  /** For how long something has been due at most, milliseconds. */
  get overdueMs(): number {
    return Math.max(0, this.#clock.wallMs() - Math.min(...this.#due.values()));
  }

  #count(outcome: 'delivered' | 'failed' | 'given-up'): void {
    this.#attempts.set(outcome, (this.#attempts.get(outcome) ?? 0) + 1);
  }

  #wake(): void {
    if (this.#isStopped || !this.#nodes.does('duties')) return;
    this.#reviewing ??= this.#failures
      .watch(() => this.#review())
      .then(() => {
        this.#reviewing = undefined;
      });
  }

  async #review(): Promise<void> {
    // Each by itself: a message that cannot even be read holds up no other destination.
    const filled = (await this.#delivery.destinations()).map((destination) => {
      const underWay = this.#underWay.get(destination) ?? new Map<string, Promise<void>>();
      this.#underWay.set(destination, underWay);
      return this.#fill(destination, underWay);
    });
    await settled(filled);
  }

  /** Sends as many messages as there is room for. */
  async #fill(destination: string, underWay: Map<string, Promise<void>>): Promise<void> {
    if (this.#isStopped || underWay.size >= atOnce) return;
    const nowMs = this.#clock.monotonicMs();
    for (const [messageId, untilMs] of this.#resting) if (untilMs <= nowMs) this.#resting.delete(messageId);
    // What is under way is still due, and so is what rests: neither may stand in the way of the others.
    const enough = atOnce + underWay.size + this.#resting.size;
    const due = await this.#store.due(destination, enough);
    const [first] = due;
    if (first) this.#due.set(destination, first.dueMs ?? first.createdMs);
    else this.#due.delete(destination);
    for (const message of due) {
      if (underWay.has(message.messageId) || this.#resting.has(message.messageId)) continue;
      if (underWay.size >= atOnce) return;
      const sending = this.#send(message).finally(() => {
        underWay.delete(message.messageId);
        if (underWay.size === 0) this.#wake();
      });
      underWay.set(message.messageId, sending);
    }
  }

  async #send(message: Message): Promise<void> {
    try {
      const attempt = await this.#attempt(message);
      // Cut off by our own stop: that says nothing of the receiver.
      if (this.#isStopped && attempt.error !== null) return;
      await this.#store.settle(attempt);
      this.#count(attempt.error === null ? 'delivered' : attempt.state === 'dead' ? 'given-up' : 'failed');
    } catch (error) {
      // It stays due, and is sent once more, after a while: others are not to wait behind it.
      if (this.#resting.size < restingMax)
        this.#resting.set(message.messageId, this.#clock.monotonicMs() + restMs);
      this.#logger.error({ reason: (error as Error).message }, 'what became of a message cannot be written');
    }
  }

  async #attempt(message: Message): Promise<Attempt> {
    const { messageId, type } = message;
    const nowMs = this.#clock.wallMs();
    try {
      await this.#delivery.deliver(message);
      const dueMs = isOrder({ type }) ? nowMs + durationMs(this.#config.confirmWithin) : null;
      return { messageId, state: 'delivered', error: null, dueMs };
    } catch (error) {
      return this.#failed(message, reasonOf(error), nowMs);
    }
  }

  #failed(message: Message, error: string, nowMs: number): Attempt {
    const { messageId, attempts, type, state, occasion } = message;
    const { attemptsMax, retryFirst, retryMost } = this.#config;
    // A code goes to an unconfirmed address; a holder who mistyped it asks for another.
    if (attempts + 1 === attemptsMax && occasion !== 'address-code')
      this.#logger.error({ messageId, type, error }, 'ALARM: a message cannot be delivered');
    if (attempts + 1 >= attemptsMax && !isOrder({ type }))
      return { messageId, state: 'dead', error, dueMs: null };
    const times = { firstMs: durationMs(retryFirst), mostMs: durationMs(retryMost) };
    const waitMs = backOffMs(times, attempts + 1);
    // Spread, so that a receiver that comes back is not met by all at once.
    const dueMs = nowMs + Math.round(waitMs * (0.75 + Math.random() / 2));
    return { messageId, state: state === 'delivered' ? 'delivered' : 'waiting', error, dueMs };
  }
}
