import type { Logger } from 'pino';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { WorkerClient } from '../../core/workers/worker.ts';
import type { Access, AccessStore, GroupedAccess, SealedQuery } from '../api/access-store.ts';
import { accessKeyOf } from './access-chain.ts';
import type { AccessAnswer, AccessRequest } from './access-thread.ts';

/** Accesses that wait for the disk. */
const waitingMax = 20_000;
/** Those that are written in one transaction. */
const togetherMax = 2000;
/** Rows of the chain that one check looks at, and how many at a time: what is to be written waits for so many. */
const [verifiedRows, verifiedAtATime] = [100_000, 1000];

const [dayMs, japanMs] = [86_400_000, 9 * 3_600_000];
const dayInJapan = (nowMs: number): number => Math.floor((nowMs + japanMs) / dayMs);

interface Waiting {
  readonly accesses: readonly Access[];
  readonly queries: readonly SealedQuery[];
  readonly settle: PromiseWithResolvers<void>;
}

/**
 * Who looked at whom. What is noted is on disk before `note` resolves; many notes share one transaction, in a thread of its own.
 * Where it cannot be written nothing is to be shown: `note` rejects with `record-unavailable`, and with `overloaded` where too many wait.
 */
export class AccessLog implements AccessStore {
  readonly #thread: WorkerClient<AccessRequest, AccessAnswer | null>;
  readonly #waiting: Waiting[] = [];
  readonly #counts = new Map<string, { day: number; count: number }>();
  #waitingAccesses = 0;
  #isWriting = false;
  #sequence = 0;

  /** `auditKey` is that of the record's audit chain. */
  constructor(options: { readonly file: string; readonly auditKey: Bytes; readonly logger?: Logger }) {
    const script = new URL('./access-thread.ts', import.meta.url);
    const start = { file: options.file, key: new Uint8Array(accessKeyOf(options.auditKey)) };
    this.#thread = new WorkerClient({ script, start });
    // What asks it says so.
    this.#thread.ended.catch((error: Error) =>
      options.logger?.error(
        { reason: error.message, act: 'see why; restart the service' },
        'ALARM: accesses cannot be recorded, and nothing personal is shown',
      ),
    );
  }

  /** Number of the last access that is on disk, as far as is known. */
  get sequence(): number {
    return this.#sequence;
  }

  note(accesses: readonly Access[], queries: readonly SealedQuery[] = []): Promise<void> {
    const count = accesses.length + queries.length;
    if (count === 0) return Promise.resolve();
    if (this.#waitingAccesses > 0 && this.#waitingAccesses + count > waitingMax)
      return Promise.reject(new PkiError('overloaded', 'too many look-ups wait to be recorded; try again'));
    const settle = Promise.withResolvers<void>();
    this.#waiting.push({ accesses, queries, settle });
    this.#waitingAccesses += count;
    void this.#write();
    return settle.promise;
  }

  /**
   * Counts a look-up of a client; `rate-exceeded` where it has looked up as many on this day as it may. A clock that steps back begins no
   * day again.
   */
  async admit(client: string, max: number, nowMs: number): Promise<void> {
    const today = dayInJapan(nowMs);
    let counted = this.#counts.get(client);
    if (!counted || counted.day < today) {
      const answer = await this.#ask({ type: 'count', client, sinceMs: today * dayMs - japanMs });
      const present = this.#counts.get(client);
      counted = present && present.day >= today ? present : { day: today, count: answer.count ?? 0 };
      this.#counts.set(client, counted);
    }
    if (counted.count >= max)
      throw new PkiError('rate-exceeded', `this client has looked up ${max} times today, as often as it may`);
    counted.count += 1;
  }

  /** Accesses to a holder, the latest first, and what was sealed under some tags. */
  async of(
    holderId: string,
    tags: readonly Bytes[],
  ): Promise<{ readonly accesses: readonly GroupedAccess[]; readonly queries: readonly Bytes[] }> {
    const { accesses = [], queries = [] } = await this.#ask({ type: 'of', holderId, tags });
    return { accesses, queries };
  }

  async forget(beforeMs: number, nowMs: number): Promise<boolean> {
    return (await this.#ask({ type: 'forget', beforeMs, nowMs })).isMore === true;
  }

  /** Verifies the next part of the chain; what is wrong, in words. */
  async verify(): Promise<string | undefined> {
    for (let rows = 0; rows < verifiedRows; rows += verifiedAtATime) {
      const { finding, isMore } = await this.#ask({ type: 'verify', rows: verifiedAtATime });
      if (finding !== undefined || !isMore) return finding;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await this.#thread.close().catch(() => undefined);
  }

  async #ask(request: AccessRequest): Promise<AccessAnswer> {
    const answer = await this.#thread.request(request);
    if (!answer) throw new PkiError('record-unavailable', 'accesses cannot be recorded');
    this.#sequence = answer.sequence;
    return answer;
  }

  async #write(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    while (this.#waiting.length > 0) {
      const together: Waiting[] = [];
      for (let rows = 0; this.#waiting[0] && rows < togetherMax; ) {
        const next = this.#waiting.shift() as Waiting;
        rows += next.accesses.length + next.queries.length;
        together.push(next);
      }
      const written = this.#ask({
        type: 'add',
        accesses: together.flatMap(({ accesses }) => accesses),
        queries: together.flatMap(({ queries }) => queries),
      });
      await written.then(
        () => {
          for (const { settle } of together) settle.resolve();
        },
        (error: unknown) => {
          for (const { settle } of together) settle.reject(error);
        },
      );
      this.#waitingAccesses -= together.reduce(
        (rows, { accesses, queries }) => rows + accesses.length + queries.length,
        0,
      );
    }
    this.#isWriting = false;
  }
}
