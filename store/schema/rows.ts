import type { Bytes } from '../../core/runtime/bytes.ts';
import { keyValues } from './digest.ts';
import type { Key, TableName } from './schema.ts';

// Rows in memory, compared as the database compares them.

type Value = string | number | Bytes | null;
export type Columns = Readonly<Record<string, Value>>;

/** The name of a row within its table, by its key. Unambiguous: the record keeps no text with a NUL. */
export const nameOf = (table: TableName, key: object): string =>
  keyValues(table, key as Key<TableName>).join('\0');

export const isSameValue = (a: Value | undefined, b: Value | undefined): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array
    ? Buffer.compare(a, b) === 0
    : (a ?? null) === (b ?? null);

/** Whether a row has the values of `where`. */
export function hasValues(row: object, where: object): boolean {
  for (const name in where) if (!isSameValue((row as Columns)[name], (where as Columns)[name])) return false;
  return true;
}

/** Orders two rows by columns. */
export function compareBy(columns: readonly string[], a: object, b: object): number {
  for (const column of columns) {
    const [left, right] = [(a as Columns)[column] ?? 0, (b as Columns)[column] ?? 0];
    const order =
      left instanceof Uint8Array && right instanceof Uint8Array
        ? Buffer.compare(left, right)
        : left < right
          ? -1
          : Number(left > right);
    if (order !== 0) return order;
  }
  return 0;
}
