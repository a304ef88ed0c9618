import { hash } from 'node:crypto';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import { rowsOfEntry } from '../engine/audit-entry.ts';
import type { RecordReader } from '../engine/record.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import type { TableName } from '../schema/schema.ts';
import { pagesOf, writersOf } from './chains.ts';
import { AuditFailure } from './finding.ts';
import type { Schema3Change } from './schema-3.ts';
import { rowsOf } from './table-rows.ts';

// Where a table's sum is wrong: which row it is. Rows are looked through in parts, by a hash of their names, so that memory does
// not grow with the table; the chains are walked once for each part.

/** Rows of one part. */
const partRows = 1_000_000;

/** Digests under which a row may be found: how often entries say that it is so, less how often that it is no more. */
type Expected = Map<string, number>;

/** The octets of a digest that entries of every schema hold. */
const prefix = (digest: Bytes): string => hex(digest.subarray(0, 16));

const nameOf = (table: TableName, key: readonly (string | number)[]): string => JSON.stringify([table, key]);

/** Throws `AuditFailure` with the first row of a table that is not as its entries say. */
export function findAlteredRow(reader: RecordReader, table: TableName, rows: number): never {
  const parts = Math.ceil(rows / partRows) || 1;
  for (let part = 0; part < parts; part++) {
    const isOfPart = (name: string): boolean =>
      hash('sha256', name, 'buffer').readUInt32BE(0) % parts === part;
    const expected = expectedRows(reader, table, isOfPart);
    compareRows(reader, table, expected, isOfPart);
  }
  throw new AuditFailure('row', table, 'its rows are not those that were written');
}

function compareRows(
  reader: RecordReader,
  table: TableName,
  expected: Map<string, Expected>,
  isOfPart: (name: string) => boolean,
): void {
  for (const row of rowsOf(reader, table)) {
    const name = nameOf(table, keyValues(table, row));
    if (!isOfPart(name)) continue;
    const known = expected.get(name);
    if (!known) throw new AuditFailure('row', name, 'no entry says that it was written');
    if ((known.get(prefix(rowDigest(table, row))) ?? 0) <= 0)
      throw new AuditFailure('row', name, 'it is not as its last entry left it');
    expected.delete(name);
  }
  const gone = [...expected].find(([, digests]) => [...digests.values()].some((count) => count > 0));
  if (gone) throw new AuditFailure('row', gone[0], 'a row that was written is gone');
}

/** What the entries of all writers say of the rows of a part. */
function expectedRows(
  reader: RecordReader,
  table: TableName,
  isOfPart: (name: string) => boolean,
): Map<string, Expected> {
  const expected = new Map<string, Expected>();
  const count = (name: string, digest: string, by: 1 | -1): void => {
    const digests = expected.get(name) ?? new Map<string, number>();
    expected.set(name, digests.set(digest, (digests.get(digest) ?? 0) + by));
  };
  for (const writer of writersOf(reader)) {
    // Entries of schema 3 say how a row was left, not how it had been: the last of a writer counts.
    const last = new Map<string, string>();
    for (const { changes } of pagesOf(reader, 'auditOfSchema3', writer)) {
      for (const [named, key, digest] of JSON.parse(changes) as Schema3Change[]) {
        const name = nameOf(named, key);
        if (named !== table || !isOfPart(name)) continue;
        const before = last.get(name);
        if (before !== undefined) count(name, before, -1);
        if (digest === null) last.delete(name);
        else count(name, digest, 1);
        if (digest !== null) last.set(name, digest);
      }
    }
    for (const entry of pagesOf(reader, 'audit', writer)) {
      for (const { table: named, key, before, after } of rowsOfEntry(entry)) {
        const name = nameOf(named, key);
        if (named !== table || !isOfPart(name)) continue;
        if (before) count(name, prefix(before), -1);
        if (after) count(name, prefix(after), 1);
      }
    }
  }
  return expected;
}
