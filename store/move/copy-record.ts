import type { Tell } from '../../core/runtime/progress.ts';
import { TableSums } from '../audit/digest-sum.ts';
import type { ThreadReader } from '../audit/open-reader.ts';
import { pageAfter, pageSize } from '../audit/table-rows.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import { type Row, type TableName, tables } from '../schema/schema.ts';

// Copies the rows of a record into another database while no process writes the record. Invariants:
//
// - Of each table rows are copied in order of their keys, a page at a time, so that what is there says where to go on.
// - `meta`, which makes a record of it, comes last.

/** Where rows are copied to. */
export interface CopyTarget {
  /** Key of the last row of a table, as audit entries name it; null where it has none. */
  lastKey(table: TableName): Promise<readonly (string | number)[] | null>;
  /** Writes rows of one table, all of them or none. */
  write(table: TableName, rows: readonly Row<TableName>[]): Promise<void>;
}

const last: TableName = 'meta';
const inOrder: readonly TableName[] = [
  ...(Object.keys(tables) as TableName[]).filter((name) => name !== last),
  last,
];

/** Copies what is not there yet. Tells of rows that it has copied. */
export async function copyRecord(from: ThreadReader, to: CopyTarget, tell: Tell): Promise<void> {
  let copied = 0;
  for (const table of inOrder) {
    for (let after = await to.lastKey(table); ; ) {
      const page: Row<TableName>[] = from.readOnce((reader) => pageAfter(reader, table, after));
      const end = page.at(-1);
      if (end) {
        await to.write(table, page);
        after = keyValues(table, end);
        copied += page.length;
        tell(copied, undefined);
      }
      if (page.length < pageSize) break;
    }
  }
}

/** How many rows each table has, and their sum: see `TableSums`. Tells of rows that it has read. */
export function sumsOf(from: ThreadReader, key: AuditKey, tell: Tell): TableSums {
  const sums = new TableSums(key);
  let read = 0;
  for (const table of inOrder) {
    let after: readonly (string | number)[] | null = null;
    for (let isMore = true; isMore; ) {
      const page: Row<TableName>[] = from.readOnce((reader) => pageAfter(reader, table, after));
      for (const row of page) sums.add(table, rowDigest(table, row));
      const end = page.at(-1);
      if (end) after = keyValues(table, end);
      read += page.length;
      tell(read, undefined);
      isMore = page.length === pageSize;
    }
  }
  return sums;
}

/** The first table of which two records do not have the same rows; undefined where there is none. */
export const differingTable = (a: TableSums, b: TableSums): TableName | undefined =>
  inOrder.find((table) => a.rowsOf(table) !== b.rowsOf(table) || a.of(table).sum !== b.of(table).sum);

/** Tables with rows, and how many. */
export const rowsByTable = (sums: TableSums): readonly (readonly [TableName, number])[] =>
  inOrder.map((table) => [table, sums.rowsOf(table)] as const).filter(([, rows]) => rows > 0);
