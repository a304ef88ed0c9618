import type { RowChange } from '../engine/workspace.ts';
import { type Columns, isSameValue } from '../schema/rows.ts';
import { columnsOf, describe, type TableName } from '../schema/schema.ts';
import { quote } from '../schema/sql.ts';
import { arrayTypes, encodeArray, kindOfColumn, type Value, valuesOf } from './values.ts';

// What a group writes, in one statement for each table and kind of change, whatever the number of rows.

export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** Changes that one statement makes: of the same table, and of updates of the same columns. */
interface Batch {
  readonly table: TableName;
  readonly type: 'insert' | 'update' | 'remove';
  /** Columns that an update changes. */
  readonly changed: readonly string[];
  readonly changes: RowChange[];
}

/** The statements that make changes. One that finds another row than was read, or none, fails, and with it the transaction. */
export function statementsFor(changes: readonly RowChange[]): Statement[] {
  const batches = new Map<string, Batch>();
  for (const change of changes) {
    const { table, row, before } = change;
    if (!row && !before) continue;
    const type = row ? (before ? 'update' : 'insert') : 'remove';
    const changed = row && before ? changedColumns(table, row, before) : [];
    if (type === 'update' && changed.length === 0) continue;
    const shape = `${type}:${table}:${changed.join()}`;
    const batch = batches.get(shape) ?? { table, type, changed, changes: [] };
    batches.set(shape, batch);
    batch.changes.push(change);
  }
  return [...batches].map(([shape, batch]) => statementOf(shape, batch));
}

function changedColumns(table: TableName, row: object, before: object): readonly string[] {
  const [now, then] = [row, before] as [Columns, Columns];
  return columnsOf(table).filter((column) => !isSameValue(now[column], then[column]));
}

function statementOf(shape: string, { table, type, changed, changes }: Batch): Statement {
  const { key } = describe(table);
  const arrayOf = (column: string, values: readonly Value[]): Buffer =>
    encodeArray(kindOfColumn(table, column), values);
  const of = (columns: readonly string[], which: 'row' | 'before' | 'key'): Buffer[] => {
    const rows = changes.map((change) => valuesOf(columns, (change[which] ?? change.key) as object));
    return columns.map((column, i) =>
      arrayOf(
        column,
        rows.map((values) => values[i] ?? null),
      ),
    );
  };
  const values =
    type === 'insert'
      ? of(columnsOf(table), 'row')
      : [...of(key, 'key'), ...of(changed, 'row'), ...of(changed, 'before'), changes.length];
  if (type === 'remove')
    return { text: textOf(shape, table, type, []), values: [...of(key, 'key'), changes.length] };
  return { text: textOf(shape, table, type, changed), values };
}

const texts = new Map<string, string>();

function textOf(shape: string, table: TableName, type: Batch['type'], changed: readonly string[]): string {
  const known = texts.get(shape);
  if (known !== undefined) return known;
  const text = { insert: insertSql, update: updateSql, remove: removeSql }[type](table, changed);
  texts.set(shape, text);
  return text;
}

/** `unnest` of an array for each column, from the given place on. */
const arraysOf = (table: TableName, columns: readonly string[], first = 1): string =>
  columns.map((column, i) => `$${first + i}::${arrayTypes[kindOfColumn(table, column)]}`).join(', ');

function insertSql(table: TableName): string {
  const columns = columnsOf(table);
  return `INSERT INTO ${quote(table)} (${columns.map(quote).join(', ')}) SELECT * FROM unnest(${arraysOf(table, columns)})`;
}

/** Fails in the server where not as many rows were written as there are: COMMIT travels with it, so that a check here would come too late. */
const countedSql = (statement: string, count: number): string =>
  `WITH written AS (${statement} RETURNING 1) SELECT 1 / (count(*) = $${count})::int FROM written`;

/** Only columns that differ, and only where they are as they were read. */
function updateSql(table: TableName, changed: readonly string[]): string {
  const { key } = describe(table);
  const old = (column: string): string => quote(`old ${column}`);
  const names = [...key.map(quote), ...changed.map((column) => quote(`new ${column}`)), ...changed.map(old)];
  const columns = [...key, ...changed, ...changed];
  const assigned = changed.map((column) => `${quote(column)} = u.${quote(`new ${column}`)}`).join(', ');
  const conditions = [
    ...key.map((column) => `t.${quote(column)} = u.${quote(column)}`),
    ...changed.map((column) => `t.${quote(column)} IS NOT DISTINCT FROM u.${old(column)}`),
  ].join(' AND ');
  const from = `unnest(${arraysOf(table, columns)}) AS u(${names.join(', ')})`;
  return countedSql(
    `UPDATE ${quote(table)} t SET ${assigned} FROM ${from} WHERE ${conditions}`,
    columns.length + 1,
  );
}

function removeSql(table: TableName): string {
  const { key } = describe(table);
  const from = `unnest(${arraysOf(table, key)}) AS u(${key.map(quote).join(', ')})`;
  const conditions = key.map((column) => `t.${quote(column)} = u.${quote(column)}`).join(' AND ');
  return countedSql(`DELETE FROM ${quote(table)} t USING ${from} WHERE ${conditions}`, key.length + 1);
}
