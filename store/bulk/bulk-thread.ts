import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { WorkerClient } from '../../core/workers/worker.ts';
import type { TransactionQueue } from '../engine/transactions.ts';
import type { BulkStepped, BulkStepper } from '../rules/bulk-step.ts';
import type { BulkStart, BulkStep } from './bulk-worker.ts';

/** Carries out bulk operations of a SQLite record in a thread, begun where it is first wanted. */
export class BulkThread implements BulkStepper {
  readonly #database: TransactionQueue;
  readonly #clock: Clock;
  readonly #of: Pick<BulkStart, 'file' | 'journalKey' | 'auditKey'>;
  #thread: WorkerClient<BulkStep, BulkStepped | null> | undefined;

  /** `file` is the record's. */
  constructor(
    options: Pick<BulkStart, 'file' | 'journalKey' | 'auditKey'> & {
      readonly database: TransactionQueue;
      readonly clock: Clock;
    },
  ) {
    const { database, clock, ...of } = options;
    this.#database = database;
    this.#clock = clock;
    this.#of = of;
  }

  async step(actId: string, phones: number): Promise<BulkStepped> {
    const thread = this.#started();
    const stepped = await this.#database.exclusive((wanted) =>
      thread.request({ type: 'step', actId, phones, wanted }),
    );
    if (stepped) return stepped;
    this.#thread = undefined;
    const cause = await thread.ended.then(
      () => undefined,
      (error: unknown) => error,
    );
    const reason = cause instanceof Error ? `: ${cause.message}` : '';
    throw new PkiError('record-unavailable', `the thread of bulk operations has ended${reason}`, { cause });
  }

  #started(): WorkerClient<BulkStep, BulkStepped | null> {
    const { writer } = this.#database;
    const start: BulkStart = { writer, shift: this.#clock.shift ?? null, ...this.#of };
    const script = new URL('./bulk-worker.ts', import.meta.url);
    this.#thread ??= new WorkerClient({ script, start });
    // `step` reports why it ended.
    this.#thread.ended.catch(() => undefined);
    return this.#thread;
  }

  async close(): Promise<void> {
    await this.#thread?.close().catch(() => undefined);
  }
}
