import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import {
  type DueTable,
  dueColumn,
  type FindOptions,
  type RecordWriter,
  type ScanOptions,
} from '../engine/record.ts';
import { columnsOf, describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import { byKeySql, dueSql, equals, findSql, quote, scanSql } from '../schema/sql.ts';

/** The tables through one connection. Statements are prepared once for each shape. */
export class SqliteRows implements RecordWriter {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const columns = describe(table).key;
    const statement = this.#shape(`get:${table}`, () => byKeySql(table));
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
    const statement = this.#shape(`part:${table}:${names}`, () => byKeySql(table, columns));
    const found = statement.get(...values(keyColumns, key)) as readonly unknown[] | undefined;
    return found && (Object.fromEntries(columns.map((name, i) => [name, found[i]])) as Pick<Row<T>, C>);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    const asked = Object.keys(where);
    const { after, limit, descending = false } = options;
    const shape = `find:${table}:${asked.join()}:${after === undefined}:${limit === undefined}:${descending}`;
    const statement = this.#shape(shape, () =>
      findSql(table, asked, { after: after !== undefined, limit: limit !== undefined, descending }),
    );
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
    const asked = Object.keys(where);
    const sql = dueSql(table, dueColumn[table], asked);
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
    const sql = scanSql(table, { asked, order, after: after !== undefined });
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

function values(columns: readonly string[], row: object): SQLInputValue[] {
  return columns.map((column) => (row as Readonly<Record<string, SQLInputValue>>)[column] ?? null);
}
