import { hash } from 'node:crypto';
import { type Bytes, hex, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { columnsOf, describe, type Key, type Row, type TableName } from './schema.ts';

/** Digest of a row as the audit chain remembers it: SHA-256 over its columns in order of the schema. */
export function rowDigest<T extends TableName>(table: T, row: Row<T>): Bytes {
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
  return hash('sha256', text, 'buffer');
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
