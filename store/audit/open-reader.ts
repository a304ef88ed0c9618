import type { RecordReader } from '../engine/record.ts';
import { BlockingReader } from '../postgres/blocking.ts';
import type { PlainServer } from '../postgres/server.ts';
import { openSqliteReader } from '../sqlite/sqlite.ts';

/** Where a record is, as data: a file of SQLite, or a database of a server. */
export type RecordPlace = { readonly file: string } | { readonly server: PlainServer };

/** A record as a thread reads it that has nothing else to do. */
export interface ThreadReader {
  /** Runs a body, once, on one state of what is committed. */
  readOnce<R>(body: (reader: RecordReader) => R): R;
  /** What is wrong with the database as its own software sees it, where that can be said in passing. */
  damage(): string | undefined;
  close(): void;
}

/** `before` is called before each read, and may throw. */
export const openReader = (place: RecordPlace, before: () => void): ThreadReader =>
  'file' in place ? openSqliteReader(place.file, before) : new BlockingReader(place.server, before);
