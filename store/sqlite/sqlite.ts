import { chmodSync, closeSync, existsSync, fdatasync, openSync, statSync } from 'node:fs';
import { backup, DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { promisify } from 'node:util';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import {
  type DueTable,
  dueColumn,
  type FindOptions,
  type RecordReader,
  type RecordWriter,
  type ScanOptions,
} from '../engine/record.ts';
import { type Backend, TransactionQueue } from '../engine/transactions.ts';
import { columnsOf, describe, type Key, type Row, type TableName, tables } from '../schema/schema.ts';
import { Checkpointer } from './checkpointer.ts';

const syncFile = promisify(fdatasync);

const quote = (name: string): string => `"${name}"`;

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

/** The tables through one connection. Statements are prepared once for each shape. */
export class SqliteRows implements RecordWriter {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const columns = describe(table).key;
    const statement = this.#shape(`get:${table}`, () => `${select(table)} WHERE ${equals(columns)}`);
    const found = statement.get(...values(columns, key));
    return found && rowOf(table, found);
  }

  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
    columns: readonly C[],
  ): Pick<Row<T>, C> | undefined {
    const keyColumns = describe(table).key;
    const names = columns.join();
    const statement = this.#shape(
      `part:${table}:${names}`,
      () => `SELECT ${columns.map(quote).join(', ')} FROM ${quote(table)} WHERE ${equals(keyColumns)}`,
    );
    const found = statement.get(...values(keyColumns, key)) as readonly unknown[] | undefined;
    return found && (Object.fromEntries(columns.map((name, i) => [name, found[i]])) as Pick<Row<T>, C>);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    const asked = Object.keys(where);
    const { after, limit, descending = false } = options;
    const shape = `find:${table}:${asked.join()}:${after === undefined}:${limit === undefined}:${descending}`;
    const statement = this.#shape(shape, () => selection(table, asked, options));
    const parameters = values(asked, where);
    if (after !== undefined) parameters.push(after);
    if (limit !== undefined) parameters.push(limit);
    return statement.all(...parameters).map((found) => rowOf(table, found));
  }

  findDue<T extends DueTable>(
    table: T,
    beforeMs: number,
    limit: number,
    where: Partial<Row<T>> = {},
  ): Row<T>[] {
    const column = quote(dueColumn[table]);
    const asked = Object.keys(where);
    const conditions = [...asked.map((name) => `${quote(name)} = ?`), `${column} < ?`].join(' AND ');
    const sql = `${select(table)} WHERE ${conditions} ORDER BY ${column} LIMIT ?`;
    const found = this.#prepared(sql).all(...values(asked, where), beforeMs, limit);
    return found.map((row) => rowOf(table, row));
  }

  scan<T extends TableName>(
    table: T,
    {
      where = {},
      order = describe(table).key as readonly (keyof Row<T> & string)[],
      after,
      limit,
    }: ScanOptions<T>,
  ): Row<T>[] {
    const asked = Object.keys(where);
    const columns = order.map(quote).join(', ');
    const conditions = [
      ...asked.map((column) => `${quote(column)} = ?`),
      ...(after ? [`(${columns}) > (${order.map(() => '?').join(', ')})`] : []),
    ];
    const behind = conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : '';
    const sql = `${select(table)}${behind} ORDER BY ${columns} LIMIT ?`;
    const found = this.#prepared(sql).all(...values(asked, where), ...(after ?? []), limit);
    return found.map((row) => rowOf(table, row));
  }

  insert<T extends TableName>(table: T, row: Row<T>): void {
    this.#insertion(table).run(...values(columnsOf(table), row));
  }

  #insertion(table: TableName): StatementSync {
    return this.#shape(`insert:${table}`, () => {
      const places = columnsOf(table).map(() => '?');
      return `INSERT INTO ${quote(table)} VALUES (${places.join(', ')})`;
    });
  }

  update<T extends TableName>(table: T, row: Row<T>, before: Row<T>): void {
    const { key } = describe(table);
    // Only columns that differ: SQLite rewrites an index for each of its columns that is named here.
    const [old, now] = [before, row] as readonly Readonly<Record<string, unknown>>[];
    const changed = columnsOf(table).filter((column) => old?.[column] !== now?.[column]);
    if (changed.length === 0) return;
    const statement = this.#shape(`update:${table}:${changed.join()}`, () => {
      const assignments = changed.map((column) => `${quote(column)} = ?`).join(', ');
      return `UPDATE ${quote(table)} SET ${assignments} WHERE ${equals(key)}`;
    });
    const { changes } = statement.run(...values(changed, row), ...values(key, row));
    if (changes !== 1) throw new Error(`no row to update in ${table}`);
  }

  remove<T extends TableName>(table: T, key: Key<T>): void {
    const columns = describe(table).key;
    this.#prepared(`DELETE FROM ${quote(table)} WHERE ${equals(columns)}`).run(...values(columns, key));
  }

  /** The statement of one shape, whose SQL is put together once. */
  #shape(name: string, sql: () => string): StatementSync {
    const known = this.#statements.get(name);
    if (known) return known;
    const statement = this.#prepared(sql());
    this.#statements.set(name, statement);
    return statement;
  }

  #prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#database.prepare(sql);
    statement.setReturnArrays(true);
    this.#statements.set(sql, statement);
    return statement;
  }
}

const select = (table: TableName): string =>
  `SELECT ${columnsOf(table).map(quote).join(', ')} FROM ${quote(table)}`;

/**
 * A row out of its values. The objects that node:sqlite makes have no shape that V8 knows: to copy one of twenty columns takes
 * 2.7 µs, and 0.04 µs of one that is made here.
 */
function rowOf<T extends TableName>(table: T, found: unknown): Row<T> {
  const columns = columnsOf(table);
  const inOrder = found as readonly unknown[];
  const row: Record<string, unknown> = {};
  for (let i = 0; i < columns.length; i++) row[columns[i] as string] = inOrder[i];
  return row as Row<T>;
}

/** The text of a `find`. */
function selection(
  table: TableName,
  asked: readonly string[],
  { after, limit, descending }: FindOptions,
): string {
  const { key } = describe(table);
  const conditions = [
    ...(asked.length > 0 ? [equals(asked)] : []),
    ...(after === undefined ? [] : [`${quote(key.at(-1) ?? '')} ${descending ? '<' : '>'} ?`]),
  ];
  return [
    select(table),
    ...(conditions.length > 0 ? [`WHERE ${conditions.join(' AND ')}`] : []),
    `ORDER BY ${key.map((column) => `${quote(column)}${descending ? ' DESC' : ''}`).join(', ')}`,
    ...(limit === undefined ? [] : ['LIMIT ?']),
  ].join(' ');
}

function equals(columns: readonly string[]): string {
  return columns.map((column) => `${quote(column)} = ?`).join(' AND ');
}

function values(columns: readonly string[], row: object): SQLInputValue[] {
  return columns.map((column) => (row as Readonly<Record<string, SQLInputValue>>)[column] ?? null);
}

/** Pages of the record that the writing connection keeps in memory. */
const cacheKib = 65_536;
/** Pages of the log before the writing connection brings it into the file itself: another thread does so long before. */
const logPages = 65_536;

/** Size in octets to which the log is truncated when it restarts. */
const logOctetsMax = 67_108_864;

/** How long another process may hold the database before a write is refused; this thread stands still meanwhile. */
const lockedMs = 500;

/** Copies a record while it is in use, as of one moment. */
export async function backupSqlite(file: string, to: string): Promise<void> {
  const source = new DatabaseSync(file, { timeout: 5000, readOnly: true });
  try {
    closeSync(openSync(to, 'w', 0o600));
    // One snapshot for the whole copy: otherwise each write during the copy would restart it.
    source.exec('BEGIN');
    source.prepare('SELECT count(*) FROM sqlite_schema').get();
    await backup(source, to);
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
  read<R>(body: (reader: RecordReader) => R): R;
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
    read: (body) => {
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
