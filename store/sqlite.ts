import { chmodSync, closeSync, existsSync, openSync } from 'node:fs';
import { backup, DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import type { Clock } from '../core/clock.ts';
import { PkiError } from '../core/errors.ts';
import type { ExpiringTable, RecordDatabase, RecordReader, RecordWriter } from './record.ts';
import { describe, type Key, type Row, type TableName, tables } from './schema.ts';
import { type Backend, TransactionQueue } from './transactions.ts';

const quote = (name: string): string => `"${name}"`;

function ddl(): string[] {
  const statements: string[] = [];
  for (const name of Object.keys(tables) as TableName[]) {
    const { columns, key, indexes = [] } = describe(name);
    const defined = Object.entries(columns).map(
      ([column, type]) =>
        `${quote(column)} ${type.replace('?', '').toUpperCase()}${type.endsWith('?') ? '' : ' NOT NULL'}`,
    );
    defined.push(`PRIMARY KEY (${key.map(quote).join(', ')})`);
    statements.push(
      `CREATE TABLE IF NOT EXISTS ${quote(name)} (${defined.join(', ')}) STRICT, WITHOUT ROWID`,
    );
    for (const index of indexes) {
      statements.push(
        `CREATE INDEX IF NOT EXISTS ${quote(`${name}By${index.join('')}`)} ON ${quote(name)} (${index.map(quote).join(', ')})`,
      );
    }
  }
  return statements;
}

/** What is wrong with pages, indexes, or the definitions of tables; undefined where nothing is. */
function damage(database: DatabaseSync): string | undefined {
  const found = database.prepare('PRAGMA integrity_check(1)').get() as { integrity_check: string };
  if (found.integrity_check !== 'ok') return found.integrity_check;
  const rows = database.prepare('SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL').all() as {
    sql: string;
  }[];
  const present = new Set(rows.map(({ sql }) => sql));
  // SQLite keeps a definition as it was written, but for these words.
  const missing = ddl().find((statement) => !present.has(statement.replace('IF NOT EXISTS ', '')));
  return missing === undefined ? undefined : `not defined as this software defines it: ${missing}`;
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

function translate(error: unknown): unknown {
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  const what = typeof errcode === 'number' ? unavailable.get(errcode & 0xff) : undefined;
  return what === undefined ? error : new PkiError('record-unavailable', what, { cause: error });
}

/** The tables through one connection. Statements are prepared once for each shape. */
class SqliteRows implements RecordWriter {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  async get<T extends TableName>(table: T, key: Key<T>): Promise<Row<T> | undefined> {
    const columns = describe(table).key;
    const sql = `SELECT * FROM ${quote(table)} WHERE ${equals(columns)}`;
    return this.#prepared(sql).get(...values(columns, key)) as Row<T> | undefined;
  }

  async find<T extends TableName>(
    table: T,
    where: Partial<Row<T>>,
    options: { readonly after?: number; readonly limit?: number; readonly descending?: boolean } = {},
  ): Promise<Row<T>[]> {
    const { key } = describe(table);
    const asked = Object.keys(where);
    const last = quote(key.at(-1) ?? '');
    const conditions = [
      ...(asked.length > 0 ? [equals(asked)] : []),
      ...(options.after === undefined ? [] : [`${last} ${options.descending ? '<' : '>'} ?`]),
    ];
    const order = key.map((column) => `${quote(column)}${options.descending ? ' DESC' : ''}`).join(', ');
    const sql = [
      `SELECT * FROM ${quote(table)}`,
      ...(conditions.length > 0 ? [`WHERE ${conditions.join(' AND ')}`] : []),
      `ORDER BY ${order}`,
      ...(options.limit === undefined ? [] : ['LIMIT ?']),
    ].join(' ');
    const parameters = values(asked, where);
    if (options.after !== undefined) parameters.push(options.after);
    if (options.limit !== undefined) parameters.push(options.limit);
    return this.#prepared(sql).all(...parameters) as Row<T>[];
  }

  async findExpired<T extends ExpiringTable>(table: T, beforeMs: number, limit: number): Promise<Row<T>[]> {
    const sql = `SELECT * FROM ${quote(table)} WHERE "expiresMs" < ? ORDER BY "expiresMs" LIMIT ?`;
    return this.#prepared(sql).all(beforeMs, limit) as Row<T>[];
  }

  async insert<T extends TableName>(table: T, row: Row<T>): Promise<void> {
    const columns = Object.keys(describe(table).columns);
    const places = columns.map(() => '?').join(', ');
    this.#prepared(`INSERT INTO ${quote(table)} VALUES (${places})`).run(...values(columns, row));
  }

  async update<T extends TableName>(table: T, row: Row<T>): Promise<void> {
    const { columns, key } = describe(table);
    const changed = Object.keys(columns).filter((column) => !key.includes(column));
    const assignments = changed.map((column) => `${quote(column)} = ?`).join(', ');
    const sql = `UPDATE ${quote(table)} SET ${assignments} WHERE ${equals(key)}`;
    const { changes } = this.#prepared(sql).run(...values(changed, row), ...values(key, row));
    if (changes !== 1) throw new Error(`no row to update in ${table}`);
  }

  async remove<T extends TableName>(table: T, key: Key<T>): Promise<void> {
    const columns = describe(table).key;
    this.#prepared(`DELETE FROM ${quote(table)} WHERE ${equals(columns)}`).run(...values(columns, key));
  }

  #prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

function equals(columns: readonly string[]): string {
  return columns.map((column) => `${quote(column)} = ?`).join(' AND ');
}

function values(columns: readonly string[], row: object): SQLInputValue[] {
  return columns.map((column) => (row as Readonly<Record<string, SQLInputValue>>)[column] ?? null);
}

/** How long another process may hold the database before a write is refused; this thread stands still meanwhile. */
const lockedMs = 500;

/** Copies a record while it is in use, as of one moment. */
export async function backupSqlite(file: string, to: string): Promise<void> {
  const source = new DatabaseSync(file, { timeout: 5000, readOnly: true });
  try {
    closeSync(openSync(to, 'w', 0o600));
    // One state from beginning to end: otherwise every write meanwhile would begin the copy anew.
    source.exec('BEGIN');
    source.prepare('SELECT count(*) FROM sqlite_schema').get();
    await backup(source, to);
  } catch (error) {
    throw translate(error);
  } finally {
    source.close();
  }
}

/**
 * The record in one SQLite file: WAL, and `synchronous=FULL`, so that a resolved write survives loss of power.
 * Several processes may share it. Readers see what is committed and never wait for writers.
 */
export function openSqlite(options: { file: string; writer: string; clock: Clock }): RecordDatabase {
  const created = !existsSync(options.file);
  let writing: DatabaseSync;
  let reading: DatabaseSync;
  try {
    writing = new DatabaseSync(options.file, { timeout: lockedMs });
    if (created) chmodSync(options.file, 0o600);
    writing.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON');
    writing.exec(ddl().join(';\n'));
    reading = new DatabaseSync(options.file, { timeout: lockedMs, readOnly: true });
  } catch (error) {
    throw translate(error);
  }
  const readerRows: RecordReader = new SqliteRows(reading);
  const backend: Backend = {
    rows: new SqliteRows(writing),
    begin: () => writing.exec('BEGIN IMMEDIATE'),
    commit: () => writing.exec('COMMIT'),
    rollback: () => writing.exec('ROLLBACK'),
    mark: () => writing.exec('SAVEPOINT member'),
    keep: () => writing.exec('RELEASE member'),
    undo: () => writing.exec('ROLLBACK TO member; RELEASE member'),
    read: async (body) => {
      reading.exec('BEGIN');
      try {
        return await body(readerRows);
      } finally {
        reading.exec('COMMIT');
      }
    },
    integrity: () => damage(reading),
    close: () => {
      reading.close();
      writing.close();
    },
    translate,
  };
  return new TransactionQueue({ backend, writer: options.writer, clock: options.clock });
}
