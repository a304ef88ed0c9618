import { columnsOf, describe, type TableName } from './schema.ts';

// SQL that every database understands: of one row or of rows by equality, in order, from a point on. Values stand as `?`, in the order in
// which they are given.

export const quote = (name: string): string => `"${name}"`;

export const selectOf = (table: TableName, columns: readonly string[] = columnsOf(table)): string =>
  `SELECT ${columns.map(quote).join(', ')} FROM ${quote(table)}`;

export const equals = (columns: readonly string[]): string =>
  columns.map((column) => `${quote(column)} = ?`).join(' AND ');

/** Of the values of the key: one row. */
export const byKeySql = (table: TableName, columns?: readonly string[]): string =>
  `${selectOf(table, columns)} WHERE ${equals(describe(table).key)}`;

/** Of the values of `asked`, then of the key's last column to begin behind, then of a limit. */
export function findSql(
  table: TableName,
  asked: readonly string[],
  {
    after,
    limit,
    descending,
  }: { readonly after: boolean; readonly limit: boolean; readonly descending: boolean },
): string {
  const { key } = describe(table);
  const conditions = [
    ...(asked.length > 0 ? [equals(asked)] : []),
    ...(after ? [`${quote(key.at(-1) ?? '')} ${descending ? '<' : '>'} ?`] : []),
  ];
  return [
    selectOf(table),
    ...(conditions.length > 0 ? [`WHERE ${conditions.join(' AND ')}`] : []),
    `ORDER BY ${key.map((column) => `${quote(column)}${descending ? ' DESC' : ''}`).join(', ')}`,
    ...(limit ? ['LIMIT ?'] : []),
  ].join(' ');
}

/** Of the values of `asked`, then of the time before which a row is due, then of a limit. */
export function dueSql(table: TableName, column: string, asked: readonly string[]): string {
  const conditions = [...asked.map((name) => `${quote(name)} = ?`), `${quote(column)} < ?`].join(' AND ');
  return `${selectOf(table)} WHERE ${conditions} ORDER BY ${quote(column)} LIMIT ?`;
}

/** Of the values of `asked`, then of those of `order` to begin behind, then of a limit. */
export function scanSql(
  table: TableName,
  {
    asked,
    order,
    after,
  }: { readonly asked: readonly string[]; readonly order: readonly string[]; readonly after: boolean },
): string {
  const columns = order.map(quote).join(', ');
  const conditions = [
    ...asked.map((column) => `${quote(column)} = ?`),
    ...(after ? [`(${columns}) > (${order.map(() => '?').join(', ')})`] : []),
  ];
  const behind = conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : '';
  return `${selectOf(table)}${behind} ORDER BY ${columns} LIMIT ?`;
}
