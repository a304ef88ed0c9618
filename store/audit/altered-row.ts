import { hash } from 'node:crypto';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import { rowsOfEntry } from '../engine/audit-entry.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import type { TableName } from '../schema/schema.ts';
import { BucketSums, bucketCount } from './bucket-sums.ts';
import { pagesOf, writersOf } from './chains.ts';
import { AuditFailure } from './finding.ts';
import type { Schema3Change } from './schema-3.ts';
import { rowsOf } from './table-rows.ts';

// Where a table's sum is wrong: which row it is. Rows are divided into buckets by a hash of their names. Sums by bucket say in which
// ones the difference is; of the rows of those alone the digests are compared. Memory does not grow with the table.

/** Buckets whose rows are compared at a time where their sums differ: one altered row is enough to be named. */
const comparedAtOnce = 8;
/** Rows compared at a time where sums by bucket cannot be made. */
const rowsAtOnce = 250_000;

/** Digests under which a row may be found: how often entries say that it is so, less how often that it is no more. */
type Expected = Map<string, number>;

/** The octets of a digest that entries of every schema hold. */
const prefix = (digest: Bytes): string => hex(digest.subarray(0, 16));

const nameOf = (table: TableName, key: readonly (string | number)[]): string => JSON.stringify([table, key]);

const bucketOf = (name: string): number => hash('sha256', name, 'buffer').readUInt16BE(0);

/** Throws `AuditFailure` with the first row of a table that is not as its entries say. */
export function findAlteredRow(reader: RecordReader, table: TableName, key: AuditKey): never {
  for (const buckets of suspects(reader, table, key)) {
    const expected = expectedRows(reader, table, buckets);
    compareRows(reader, table, expected, buckets);
  }
  throw new AuditFailure('row', table, 'its rows are not those that were written');
}

/** Sets of buckets to compare, one after the other. */
function suspects(reader: RecordReader, table: TableName, key: AuditKey): ReadonlySet<number>[] {
  // Entries of schema 3 do not say how a row had been: they cannot be summed up.
  const isSummed = writersOf(reader).every(
    (writer) => reader.find('auditOfSchema3', { writer }, { limit: 1 }).length === 0,
  );
  if (isSummed) return [new Set(differingBuckets(reader, table, key).slice(0, comparedAtOnce))];
  let rows = 0;
  for (const _ of rowsOf(reader, table)) rows += 1;
  const sets = Math.ceil(rows / rowsAtOnce) || 1;
  const each = Math.ceil(bucketCount / sets);
  return Array.from(
    { length: sets },
    (_, set) => new Set(Array.from({ length: each }, (_, i) => set * each + i)),
  );
}

function differingBuckets(reader: RecordReader, table: TableName, key: AuditKey): number[] {
  const sums = new BucketSums(key);
  for (const writer of writersOf(reader)) {
    for (const entry of pagesOf(reader, 'audit', writer)) {
      for (const { table: named, key: values, before, after } of rowsOfEntry(entry)) {
        if (named !== table) continue;
        const bucket = bucketOf(nameOf(named, values));
        if (before) sums.add(bucket, before, -1);
        if (after) sums.add(bucket, after, 1);
      }
    }
  }
  for (const row of rowsOf(reader, table))
    sums.add(bucketOf(nameOf(table, keyValues(table, row))), rowDigest(table, row), -1);
  return sums.differing;
}

function compareRows(
  reader: RecordReader,
  table: TableName,
  expected: Map<string, Expected>,
  buckets: ReadonlySet<number>,
): void {
  for (const row of rowsOf(reader, table)) {
    const name = nameOf(table, keyValues(table, row));
    if (!buckets.has(bucketOf(name))) continue;
    const known = expected.get(name);
    if (!known) throw new AuditFailure('row', name, 'no entry says that it was written');
    if ((known.get(prefix(rowDigest(table, row))) ?? 0) <= 0)
      throw new AuditFailure('row', name, 'it is not as its last entry left it');
    expected.delete(name);
  }
  const gone = [...expected].find(([, digests]) => [...digests.values()].some((count) => count > 0));
  if (gone) throw new AuditFailure('row', gone[0], 'a row that was written is gone');
}

/** What the entries of all writers say of the rows of some buckets. */
function expectedRows(
  reader: RecordReader,
  table: TableName,
  buckets: ReadonlySet<number>,
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
        if (named !== table || !buckets.has(bucketOf(name))) continue;
        const before = last.get(name);
        if (before !== undefined) count(name, before, -1);
        if (digest === null) last.delete(name);
        else count(name, digest, 1);
        if (digest !== null) last.set(name, digest);
      }
    }
    for (const entry of pagesOf(reader, 'audit', writer)) {
      for (const { table: named, key, before, after } of rowsOfEntry(entry)) {
        if (named !== table) continue;
        const name = nameOf(named, key);
        if (!buckets.has(bucketOf(name))) continue;
        if (before) count(name, prefix(before), -1);
        if (after) count(name, prefix(after), 1);
      }
    }
  }
  return expected;
}
