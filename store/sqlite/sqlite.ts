import { chmodSync, closeSync, existsSync, fdatasync, openSync, statSync } from 'node:fs';
import { backup, DatabaseSync, type StatementSync } from 'node:sqlite';
import { promisify } from 'node:util';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Tell } from '../../core/runtime/progress.ts';
import type { RecordReader } from '../engine/record.ts';
import { type Backend, TransactionQueue } from '../engine/transactions.ts';
import { describe, type TableName, tables } from '../schema/schema.ts';
import { quote } from '../schema/sql.ts';
import { Checkpointer } from './checkpointer.ts';
import { SqliteRows } from './rows.ts';

const syncFile = promisify(fdatasync);

/** The statements that define a table and its indexes where there are none. */
function ddlOf(name: TableName): string[] {
  const { columns, key, indexes = [], sparseIndexes = [] } = describe(name);
  const defined = Object.entries(columns).map(
    ([column, type]) =>
      `${quote(column)} ${type.replace('?', '').toUpperCase()}${type.endsWith('?') ? '' : ' NOT NULL'}`,
  );
  defined.push(`PRIMARY KEY (${key.map(quote).join(', ')})`);
  const all = [...indexes.map((columns) => ({ columns, present: null })), ...sparseIndexes];
  return [
    `CREATE TABLE IF NOT EXISTS ${quote(name)} (${defined.join(', ')}) STRICT`,
    ...all.map(({ columns: index, present }) => {
      const sparse = present === null ? '' : ` WHERE ${quote(present)} IS NOT NULL`;
      return `CREATE INDEX IF NOT EXISTS ${quote(`${name}By${index.join('')}`)} ON ${quote(name)} (${index.map(quote).join(', ')})${sparse}`;
    }),
  ];
}

/** The same of all tables. */
export const ddl = (): string[] => (Object.keys(tables) as TableName[]).flatMap(ddlOf);

/** What is wrong with pages, indexes, or the definitions of tables; undefined where nothing is. */
function damage(database: DatabaseSync): string | undefined {
  const found = database.prepare('PRAGMA integrity_check(1)').get() as { integrity_check: string };
  if (found.integrity_check !== 'ok') return found.integrity_check;
  const rows = database.prepare('SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL').all() as {
    sql: string;
  }[];
  const present = new Set(rows.map(({ sql }) => sql));
  // SQLite keeps a definition as it was written, but for these words.
  const defined = ddl().map((statement) => statement.replace('IF NOT EXISTS ', ''));
  const missing = defined.find((statement) => !present.has(statement));
  if (missing !== undefined) return `not defined as this software defines it: ${missing}`;
  // A trigger, or a view in the place of a table, would do what no entry says.
  const added = [...present].find((statement) => !defined.includes(statement));
  return added === undefined ? undefined : `not defined by this software: ${added}`;
}

/** Primary result codes (sqlite.org/rescode.html) that mean the database, not the request, is at fault. */
const unavailable = new Map([
  [5, 'the database is locked'],
  [6, 'the database is locked'],
  [8, 'the database cannot be written'],
  [10, 'the disk failed'],
  [11, 'the database is damaged'],
  [13, 'the disk is full'],
  [14, 'the database cannot be opened'],
  [26, 'the file is not a database'],
]);

export function translate(error: unknown): unknown {
  // An integer beyond 2^53, which this software never writes.
  if (error instanceof RangeError)
    return new PkiError('record-unavailable', `the record was altered: ${error.message}`, { cause: error });
  if (error instanceof Error && /^no such (column|table): /.test(error.message))
    return new PkiError('record-unavailable', `the record was altered: ${error.message}`, { cause: error });
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  const what = typeof errcode === 'number' ? unavailable.get(errcode & 0xff) : undefined;
  return what === undefined ? error : new PkiError('record-unavailable', what, { cause: error });
}

/** Pages of the record that the writing connection keeps in memory. */
const cacheKib = 65_536;
/** Pages of the log before the writing connection brings it into the file itself: another thread does so long before. */
const logPages = 65_536;

/** Size in octets to which the log is truncated when it restarts. */
const logOctetsMax = 67_108_864;

/** How long another process may hold the database before a write is refused; this thread stands still meanwhile. */
const lockedMs = 500;

/** Pages copied at a time, in a thread of Node's pool. */
const pagesAtOnce = 4096;

/** Copies a record while it is in use, as of one moment. Tells of pages. */
export async function backupSqlite(file: string, to: string, tell?: Tell): Promise<void> {
  const source = new DatabaseSync(file, { timeout: 5000, readOnly: true });
  try {
    closeSync(openSync(to, 'w', 0o600));
    // One snapshot for the whole copy: otherwise each write during the copy would restart it.
    source.exec('BEGIN');
    source.prepare('SELECT count(*) FROM sqlite_schema').get();
    await backup(source, to, {
      rate: pagesAtOnce,
      progress: ({ totalPages, remainingPages }) => tell?.(totalPages - remainingPages, totalPages),
    });
  } catch (error) {
    throw translate(error);
  } finally {
    source.close();
  }
}

/** A record's rows over a connection of its own, which only reads. `before` is called before each read, and may throw. */
export function openSqliteReader(
  file: string,
  before: () => void,
): {
  readOnce<R>(body: (reader: RecordReader) => R): R;
  /** What is wrong with the database; undefined where nothing is, and where it is larger than can be looked through in passing. */
  damage(): string | undefined;
  close(): void;
} {
  const database = new DatabaseSync(file, { timeout: lockedMs, readOnly: true });
  const rows = new SqliteRows(database);
  const paced = (): SqliteRows => {
    before();
    return rows;
  };
  const reader: RecordReader = {
    get: (...of) => paced().get(...of),
    part: (...of) => paced().part(...of),
    find: (...of) => paced().find(...of),
    findDue: (...of) => paced().findDue(...of),
    scan: (...of) => paced().scan(...of),
  };
  return {
    readOnce: (body) => {
      database.exec('BEGIN');
      try {
        return body(reader);
      } finally {
        database.exec('COMMIT');
      }
    },
    damage: () => {
      const { size } = statSync(file);
      return size > checkedOctetsMax ? undefined : damage(database);
    },
    close: () => database.close(),
  };
}

/** Records up to this size are looked through for damage in passing, which takes half a second; larger ones by `audit verify`. */
const checkedOctetsMax = 2 ** 26;

/**
 * The record in one SQLite file: a write-ahead log that is on disk before a write resolves, so that it survives loss of power.
 * Several processes may share it. Readers see what is committed and never wait for writers.
 */
export function openSqlite(options: {
  file: string;
  writer: string;
  clock: Clock;
  /** Another process serves from the record: it must see nothing of ours that is not on disk. */
  shared?: boolean;
}): TransactionQueue {
  const created = !existsSync(options.file);
  let writing: DatabaseSync;
  let log: number;
  let reading: DatabaseSync;
  try {
    writing = new DatabaseSync(options.file, { timeout: lockedMs });
    if (created) chmodSync(options.file, 0o600);
    // NORMAL leaves the syncing of the log to us, and syncs log and file wherever a checkpoint needs it.
    writing.exec('PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON');
    writing.exec(`PRAGMA synchronous = ${options.shared ? 'FULL' : 'NORMAL'}`);
    writing.exec(`PRAGMA temp_store = MEMORY; PRAGMA cache_size = -${cacheKib}`);
    writing.exec(`PRAGMA wal_autocheckpoint = ${logPages}`);
    // A log that grew during a long read is truncated when it restarts.
    writing.exec(`PRAGMA journal_size_limit = ${logOctetsMax}`);
    writing.exec(ddl().join(';\n'));
    // What an earlier process left in the log may be in the kernel's memory only: brought into the file it is on disk.
    if (!options.shared) writing.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    log = openSync(`${options.file}-wal`, 'r');
    reading = new DatabaseSync(options.file, { timeout: lockedMs, readOnly: true });
  } catch (error) {
    throw translate(error);
  }
  const readerRows: RecordReader = new SqliteRows(reading);
  const [beginReading, endReading] = [reading.prepare('BEGIN'), reading.prepare('COMMIT')];
  const checkpointer = options.shared ? undefined : new Checkpointer(options.file, options.clock);
  const version = writing.prepare('PRAGMA data_version');
  let seen: unknown;
  const prepared = new Map<string, StatementSync>();
  const run = (sql: string): void => {
    const statement = prepared.get(sql) ?? writing.prepare(sql);
    prepared.set(sql, statement);
    statement.run();
  };
  const backend: Backend = {
    rows: new SqliteRows(writing),
    begin: () => run('BEGIN IMMEDIATE'),
    changedByOthers: () => {
      const now = version.get()?.data_version;
      const changed = now !== seen;
      seen = now;
      return changed;
    },
    commit: () => run('COMMIT'),
    // On a thread of Node's pool: this one goes on meanwhile.
    sync: async () => {
      await syncFile(log);
      checkpointer?.written();
    },
    rollback: () => run('ROLLBACK'),
    read: async (body) => {
      beginReading.run();
      try {
        return await body(readerRows);
      } finally {
        endReading.run();
      }
    },
    integrity: () => damage(reading),
    close: async () => {
      await checkpointer?.close();
      reading.close();
      writing.close();
      closeSync(log);
    },
    translate,
  };
  return new TransactionQueue({ backend, writer: options.writer, clock: options.clock });
}
