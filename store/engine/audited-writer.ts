import { hash } from 'node:crypto';
import type { FeedEvent } from '../../core/feed/feed.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import { type Bytes, hex, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import {
  columnsOfView,
  type ReplicatedRow,
  type ReplicatedTable,
  type ReplicatedTransaction,
  replicatedValue,
  viewsOf,
} from '../schema/replicated.ts';
import { columnsOf, describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import type { Deed, Heads, RecordReader, RecordWriter, Transaction } from './record.ts';

/** Digest of a row as the audit chain remembers it: 16 octets of SHA-256 over its columns in order of the schema. */
export function rowDigest<T extends TableName>(table: T, row: Row<T>): string {
  const columns = row as Readonly<Record<string, string | number | Bytes | null>>;
  let text = table as string;
  for (const name of columnsOf(table)) {
    const value = columns[name] ?? null;
    refuseUnreturnable(table, name, value);
    // Lengths go before what may hold anything, so that no two rows have one text.
    if (typeof value === 'string') text += `,s${value.length}:${value}`;
    else if (value instanceof Uint8Array) text += `,b${value.length}:${view(value).toString('latin1')}`;
    else text += `,${value}`;
  }
  return hash('sha256', text, 'hex').slice(0, 32);
}

/**
 * No value enters the record that it would not give back as it is: SQLite refuses integers beyond 2^53 when they are read,
 * takes NaN for NULL, and ends texts at a NUL. A row that cannot be read would fail whatever reads it, for ever.
 */
function refuseUnreturnable(table: string, column: string, value: unknown): void {
  const isWrong =
    (typeof value === 'number' && !Number.isSafeInteger(value)) ||
    (typeof value === 'string' && value.includes('\0'));
  if (isWrong) throw new PkiError('bad-request', `${table}.${column}: a value that the record cannot keep`);
}

/** The key's values in order, for naming a row in the chain. */
export function keyValues<T extends TableName>(table: T, row: Key<T>): (string | number)[] {
  const columns = row as Readonly<Record<string, string | number | Bytes>>;
  return describe(table).key.map((name) => {
    const value = columns[name] ?? '';
    return value instanceof Uint8Array ? hex(value) : value;
  });
}

type Columns = Readonly<Record<string, string | number | Bytes | null>>;

const isSameValue = (a: Columns[string] | undefined, b: Columns[string] | undefined): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array
    ? Buffer.compare(a, b) === 0
    : (a ?? null) === (b ?? null);

type Change = readonly [table: TableName, key: (string | number)[], digest: string | null];

/** Events that one row of the stream holds at most: bounds what a follower gets at once. */
const eventsOfRow = 200;

/** Passes everything on and remembers the digest of every row written. */
export class AuditedWriter implements Transaction {
  readonly writer: string;
  readonly #raw: RecordWriter;
  readonly changes: Change[] = [];
  readonly #seal: JournalSeal | null;
  readonly #replicated: ReplicatedRow[] = [];
  #events: FeedEvent[] = [];
  heads: Heads;

  /** With a `seal` the rows that `replicated.ts` names travel in the feed, for the CA alone. */
  constructor(raw: RecordWriter, writer: string, heads: Heads, seal: JournalSeal | null = null) {
    this.#raw = raw;
    this.writer = writer;
    this.heads = heads;
    this.#seal = seal;
  }

  get: RecordReader['get'] = (table, key) => this.#raw.get(table, key);
  find: RecordReader['find'] = (table, where, options) => this.#raw.find(table, where, options);

  findDue: RecordReader['findDue'] = (...asked) => this.#raw.findDue(...asked);
  scan: RecordReader['scan'] = (table, options) => this.#raw.scan(table, options);

  insert<T extends TableName>(table: T, row: Row<T>): void {
    this.#raw.insert(table, row);
    this.#tell(table, row, null);
    this.#note(table, row as unknown as Key<T>, rowDigest(table, row));
  }

  insertNew<T extends TableName>(table: T, row: Row<T>): boolean {
    const isNew = this.#raw.insertNew(table, row);
    if (!isNew) return false;
    this.#tell(table, row, null);
    this.#note(table, row as unknown as Key<T>, rowDigest(table, row));
    return true;
  }

  update<T extends TableName>(table: T, row: Row<T>, before: Row<T>): void {
    this.#raw.update(table, row, before);
    this.#tell(table, row, before);
    this.#note(table, row as unknown as Key<T>, rowDigest(table, row));
  }

  remove<T extends TableName>(table: T, key: Key<T>): void {
    this.#raw.remove(table, key);
    this.#note(table, key, null);
  }

  appendEvent(event: FeedEvent): void {
    if (this.#events.length >= eventsOfRow) this.#flushEvents();
    if (this.#events.length === 0) this.heads = { ...this.heads, position: this.heads.position + 1 };
    this.#events.push(event);
  }

  /** What a transaction replicates is one row of the stream, so that a thousand pairs cost little more than one. */
  #flushEvents(): void {
    if (this.#events.length === 0) return;
    const { position } = this.heads;
    this.insert('event', { writer: this.writer, position, body: JSON.stringify(this.#events) });
    this.#events = [];
  }

  /** Notes what followers keep for the CA: views of the row that have news. */
  #tell<T extends TableName>(table: T, row: Row<T>, before: Row<T> | null): void {
    if (!this.#seal) return;
    for (const [view, columns] of viewsOf(table).entries()) {
      const [now, then] = [row, before] as unknown as [Columns, Columns | null];
      const isNews = then
        ? columns.some((name) => !isSameValue(now[name], then[name]))
        : view === 0 || columns.some((name) => (now[name] ?? null) !== null);
      if (!isNews) continue;
      const values = columnsOfView(table, view).map((name) => replicatedValue(now[name] ?? null));
      this.#replicated.push([table as ReplicatedTable, view, values]);
    }
  }

  /** All that a transaction tells the CA is one event, under fresh randomness. */
  #flushReplicated(): void {
    if (!this.#seal || this.#replicated.length === 0) return;
    // Of the row that the event will be in.
    const begins = this.#events.length === 0 || this.#events.length >= eventsOfRow;
    const transaction: ReplicatedTransaction = {
      position: this.heads.position + (begins ? 1 : 0),
      rows: this.#replicated,
    };
    this.appendEvent({ type: 'sealed', sealed: this.#seal.seal(JSON.stringify(transaction)) });
  }

  /** Closes the transaction with its entry in the writer's chain, if it wrote anything. */
  close(deed: Deed, nowMs: number): void {
    this.#flushReplicated();
    this.#flushEvents();
    if (this.changes.length === 0) return;
    const { writer } = this;
    // Time on record only goes on: a clock that was set back is recognized by it, whatever was written meanwhile.
    const atMs = deed.takesBackTo ?? Math.max(nowMs, this.heads.atMs);
    const { sequence: last, hash: previousHash, position } = this.heads;
    const entry = {
      writer,
      sequence: last + 1,
      atMs,
      actor: JSON.stringify(deed.actor),
      action: deed.action,
      subject: JSON.stringify(deed.subject),
      changes: JSON.stringify(this.changes),
      previousHash,
    };
    const row = { ...entry, hash: auditHash(entry) };
    this.#raw.insert('audit', row);
    this.heads = { sequence: row.sequence, hash: row.hash, atMs, position };
  }

  #note<T extends TableName>(table: T, key: Key<T>, rowHash: string | null): void {
    this.changes.push([table, keyValues(table, key), rowHash]);
  }
}

/** SHA-256 over the previous entry's hash and every other column of this one. */
export function auditHash(entry: Omit<Row<'audit'>, 'hash'>): Bytes {
  const { writer, sequence, atMs, actor, action, subject, changes, previousHash } = entry;
  const lengths = [actor, subject, changes].map(({ length }) => length);
  const head = JSON.stringify([hex(previousHash), writer, sequence, atMs, action, lengths]);
  return hash('sha256', `${head}${actor}${subject}${changes}`, 'buffer');
}
