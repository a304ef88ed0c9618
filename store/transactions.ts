import type { Clock } from '../core/clock.ts';
import { PkiError } from '../core/errors.ts';
import { AuditedWriter, appendAudit } from './audit.ts';
import type { Deed, RecordDatabase, RecordReader, RecordWriter } from './record.ts';

/** What an implementation of the record supplies; `TransactionQueue` makes a `RecordDatabase` of it. */
export interface Backend {
  readonly rows: RecordWriter;
  begin(): void;
  commit(): void;
  rollback(): void;
  /** A point within the transaction that `undo` returns to and `keep` forgets. Not nested. */
  mark(): void;
  keep(): void;
  undo(): void;
  /** Runs `body` on one consistent state of what is committed. */
  read<R>(body: (reader: RecordReader) => Promise<R>): Promise<R>;
  integrity(): string | undefined;
  close(): void;
  /** Translates what the database throws when it cannot be used. */
  translate(error: unknown): unknown;
}

interface Waiting {
  readonly run: () => Promise<void>;
  readonly commit: () => void;
  readonly fail: (error: unknown) => void;
}

/** Longest queue and largest commit. A commit is one fsync, so waiting writers share it. */
const waitingMax = 10_000;
const commitMax = 256;

/** Serializes writers and lets those that wait share a commit: group commit without a timer. */
export class TransactionQueue implements RecordDatabase {
  readonly writer: string;
  readonly #backend: Backend;
  readonly #clock: Clock;
  #waiting: Waiting[] = [];
  #draining: Promise<void> | undefined;
  #reading: Promise<unknown> = Promise.resolve();
  #closed = false;
  /** Whether the last commit failed. */
  #failed = false;

  constructor(options: { backend: Backend; writer: string; clock: Clock }) {
    this.#backend = options.backend;
    this.writer = options.writer;
    this.#clock = options.clock;
  }

  read<R>(body: (reader: RecordReader) => Promise<R>): Promise<R> {
    const result = this.#reading.then(async () => {
      if (this.#closed) throw new PkiError('record-unavailable', 'the record is closed');
      try {
        return await this.#backend.read(body);
      } catch (error) {
        throw this.#backend.translate(error);
      }
    });
    this.#reading = result.catch(() => undefined);
    return result;
  }

  write<R>(deed: Deed, body: (writer: RecordWriter) => Promise<R>): Promise<R> {
    if (this.#closed) return Promise.reject(new PkiError('record-unavailable', 'the record is closed'));
    if (this.#waiting.length >= waitingMax) {
      return Promise.reject(new PkiError('overloaded', 'too many writes are waiting for the record'));
    }
    return new Promise<R>((resolve, reject) => {
      let result: R;
      this.#waiting.push({
        run: async () => {
          const audited = new AuditedWriter(this.#backend.rows);
          result = await body(audited);
          if (audited.changes.length > 0) {
            await appendAudit(this.#backend.rows, this.writer, this.#clock.wallMs(), deed, audited.changes);
          }
        },
        commit: () => resolve(result),
        fail: reject,
      });
      this.#draining ??= this.#drain();
    });
  }

  async probe(): Promise<void> {
    const deed = {
      actor: { client: `node:${this.writer}`, role: 'node', requestId: '' },
      action: 'probe',
      subject: {},
    };
    await this.write(deed, async (tx) => {
      if (!this.#failed) return;
      const row = { name: 'probe', value: String(this.#clock.wallMs()) };
      if (await tx.get('meta', { name: row.name })) await tx.update('meta', row);
      else await tx.insert('meta', row);
    });
  }

  integrity(): Promise<string | undefined> {
    return this.read(async () => this.#backend.integrity());
  }

  async close(): Promise<void> {
    await this.#draining;
    this.#closed = true;
    await this.#reading;
    this.#backend.close();
  }

  async #drain(): Promise<void> {
    // Whoever calls in this turn of the event loop shares the first commit.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const group = this.#waiting.slice(0, commitMax);
      this.#waiting = this.#waiting.slice(group.length);
      await this.#commitGroup(group);
    }
    this.#draining = undefined;
  }

  async #commitGroup(group: readonly Waiting[]): Promise<void> {
    const backend = this.#backend;
    const written: Waiting[] = [];
    try {
      backend.begin();
      for (const member of group) if (await this.#runMember(member)) written.push(member);
      backend.commit();
    } catch (error) {
      this.#failed = true;
      this.#rollback();
      const translated = backend.translate(error);
      for (const member of group) member.fail(translated);
      return;
    }
    if (written.length > 0) this.#failed = false;
    for (const member of written) member.commit();
  }

  /** Runs one member; its own failure undoes it alone, a failure of the database the whole group. */
  async #runMember(member: Waiting): Promise<boolean> {
    const backend = this.#backend;
    backend.mark();
    try {
      await member.run();
    } catch (error) {
      const translated = backend.translate(error);
      if (translated instanceof PkiError && translated.code === 'record-unavailable') throw translated;
      backend.undo();
      member.fail(translated);
      return false;
    }
    backend.keep();
    return true;
  }

  #rollback(): void {
    try {
      this.#backend.rollback();
    } catch (error) {
      // The database ends a transaction by itself on some errors; then there is nothing to roll back.
      if (!(this.#backend.translate(error) instanceof Error)) throw error;
    }
  }
}
