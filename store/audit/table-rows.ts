import type { RecordReader } from '../engine/record.ts';
import { describe, type Row, type TableName, tables } from '../schema/schema.ts';

/** Rows read at a time. */
const pageSize = 1000;

/** The chains themselves: what they say is not about themselves. */
const chains: readonly TableName[] = ['audit', 'auditOfSchema3'];

/** Tables whose rows entries are about. */
export const auditedTables = (Object.keys(tables) as TableName[]).filter((name) => !chains.includes(name));

/** All rows of a table, read by the page. */
export function* rowsOf<T extends TableName>(reader: RecordReader, table: T): Iterable<Row<T>> {
  const { key } = describe(table);
  let after: readonly (string | number | Uint8Array)[] | undefined;
  for (let more = true; more; ) {
    const page = reader.scan(table, { limit: pageSize, ...(after ? { after } : {}) });
    yield* page;
    const last = page.at(-1) as Readonly<Record<string, string | number | Uint8Array>> | undefined;
    if (last) after = key.map((column) => last[column] ?? '');
    more = page.length === pageSize;
  }
}
