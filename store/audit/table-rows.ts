import { fromHex } from '../../core/runtime/bytes.ts';
import type { RecordReader } from '../engine/record.ts';
import { keyValues } from '../schema/digest.ts';
import { describe, type Row, type TableName, tables } from '../schema/schema.ts';

/** Rows read at a time. */
export const pageSize = 1000;

/** The chains themselves: what they say is not about themselves. */
const chains: readonly TableName[] = ['audit', 'auditOfSchema3'];

/** Tables whose rows entries are about. */
export const auditedTables = (Object.keys(tables) as TableName[]).filter((name) => !chains.includes(name));

/** A page of a table's rows behind a key as entries name it; from the first on without one. */
export function pageAfter<T extends TableName>(
  reader: RecordReader,
  table: T,
  after: readonly (string | number)[] | null,
): Row<T>[] {
  const { key, columns } = describe(table);
  const values = after?.map((value, i) =>
    columns[key[i] ?? ''] === 'blob' ? fromHex(String(value)) : value,
  );
  return reader.scan(table, { limit: pageSize, ...(values ? { after: values } : {}) });
}

/** All rows of a table, read by the page. */
export function* rowsOf<T extends TableName>(reader: RecordReader, table: T): Iterable<Row<T>> {
  let after: readonly (string | number)[] | null = null;
  for (let more = true; more; ) {
    const page: Row<T>[] = pageAfter(reader, table, after);
    yield* page;
    const last = page.at(-1);
    if (last) after = keyValues(table, last);
    more = page.length === pageSize;
  }
}

/** The database's order of two keys of one table, as entries name them: below zero, zero, above. */
export function keyOrder(a: readonly (string | number)[], b: readonly (string | number)[]): number {
  for (let i = 0; i < a.length; i++) {
    const [left = 0, right = 0] = [a[i], b[i]];
    if (left === right) continue;
    // Texts by their octets: JavaScript would order them by units of UTF-16.
    return typeof left === 'number' && typeof right === 'number'
      ? left - right
      : Buffer.compare(Buffer.from(String(left)), Buffer.from(String(right)));
  }
  return 0;
}
