import type { FeedEvent } from '../../core/feed/feed.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { Key, Row, TableName } from '../schema/schema.ts';

/** How far a writer's chains have come within the transactions at hand. */
export interface Heads {
  /** Of its audit chain; zero and zeros before the first entry. */
  readonly sequence: number;
  readonly hash: Bytes;
  /** The latest time of its entries: that of the last. */
  readonly atMs: number;
  /** Of its status feed. */
  readonly position: number;
}

/** Reading within one transaction: everything it sees belongs to one moment. */
export interface RecordReader {
  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined;
  /** Some columns of one row: of a wide table a fraction of what all of them take. */
  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
    columns: readonly C[],
  ): Pick<Row<T>, C> | undefined;
  /**
   * Rows whose columns equal `where`, which names a prefix of the key or a declared index, in order of the key.
   * `after` excludes rows up to that value of the key's last column.
   */
  find<T extends TableName>(table: T, where: Partial<Row<T>>, options?: FindOptions): Row<T>[];
  /** Rows whose time came before then, and whose columns equal `where`, oldest first; a row without a time never comes. */
  findDue<T extends DueTable>(table: T, beforeMs: number, limit: number, where?: Partial<Row<T>>): Row<T>[];
  /**
   * Rows whose columns equal `where`, in order of `order` (of their key without it), from behind `after` on. `where` and
   * `order` together are a prefix of the key or of an index.
   */
  scan<T extends TableName>(table: T, options: ScanOptions<T>): Row<T>[];
}

export interface FindOptions {
  readonly after?: number;
  readonly limit?: number | undefined;
  readonly descending?: boolean;
}

export interface ScanOptions<T extends TableName> {
  readonly where?: Partial<Row<T>>;
  readonly order?: readonly (keyof Row<T> & string)[];
  /** Values of the columns of `order`. */
  readonly after?: readonly (string | number | Bytes)[];
  readonly limit: number;
}

/** Tables whose rows have a time, and the column with it. */
export const dueColumn = {
  request: 'expiresMs',
  challenge: 'expiresMs',
  succession: 'dueMs',
  activation: 'dueMs',
  movedDay: 'dueMs',
  enrolmentCode: 'expiresMs',
  message: 'dueMs',
  watchDetail: 'endsMs',
} as const;
export type DueTable = keyof typeof dueColumn;

/** Writing within one transaction. Every row written enters the transaction's audit entry by its digest. */
export interface RecordWriter extends RecordReader {
  /** Throws where the key is taken. */
  insert<T extends TableName>(table: T, row: Row<T>): void;
  /** Replaces `before`, the row of that key as it is; throws where there is none. */
  update<T extends TableName>(table: T, row: Row<T>, before: Row<T>): void;
  remove<T extends TableName>(table: T, key: Key<T>): void;
}

/** One transaction of a writer, whose audit entry and events follow those before. */
export interface Transaction extends RecordWriter {
  /** Inserts a row where its key is free; otherwise nothing happens. Whether it was. */
  insertNew<T extends TableName>(table: T, row: Row<T>): boolean;
  readonly writer: string;
  /** A new id, dated at `ms`: the same one where the transaction runs again. */
  newId(ms: number): string;
  /** Where the writer's chains stood before this transaction's own entry, and with the events it has appended. */
  readonly heads: Heads;
  /** Appends an event to the writer's stream, where `heads` then stands. */
  appendEvent(event: FeedEvent): void;
}

/** What a transaction says of itself in the audit chain. `subject` holds no personal data. */
export interface AuditHeader {
  readonly actor: Actor;
  readonly action: string;
  readonly subject: Readonly<Record<string, unknown>>;
  /** Dates the entry before those that are there: the decision of two people that the time on record is wrong. */
  readonly takesBackTo?: number;
}
