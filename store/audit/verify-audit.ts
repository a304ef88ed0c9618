import { randomBytes } from 'node:crypto';
import { PkiError } from '../../core/runtime/errors.ts';
import { AuditKey } from '../engine/audit-key.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader } from '../engine/record.ts';
import { rowDigest } from '../schema/digest.ts';
import type { TableName } from '../schema/schema.ts';
import { findAlteredRow } from './altered-row.ts';
import { ChainWalk } from './chains.ts';
import { TableSums } from './digest-sum.ts';
import { AuditFailure, type AuditFinding, type AuditHead } from './finding.ts';
import { auditedTables, rowsOf } from './table-rows.ts';

export interface AuditReport {
  readonly entries: number;
  readonly rows: number;
  readonly heads: readonly AuditHead[];
  /** The first thing that is wrong; undefined where all is as it was written. */
  readonly finding: AuditFinding | undefined;
}

/**
 * Walks every writer's chain, and compares the sum that its entries imply with the sum of the rows, table by table. Memory does not grow with the record. Without a `key` entries are not authenticated: then a chain that was written
 * again whole is found by its checkpoints alone, and a record of schema 3 that was migrated cannot be verified.
 */
export async function verifyAudit(
  database: RecordDatabase,
  checkpoints: readonly AuditHead[],
  key: AuditKey | null,
): Promise<AuditReport> {
  const damage = await database.integrity();
  // One state of the record, so that what is written meanwhile is no false alarm.
  return database.read((reader) => verifyState(reader, { checkpoints, damage, key }));
}

function verifyState(
  reader: RecordReader,
  {
    checkpoints,
    damage,
    key,
  }: {
    readonly checkpoints: readonly AuditHead[];
    readonly damage: string | undefined;
    readonly key: AuditKey | null;
  },
): AuditReport {
  const summing = key ?? new AuditKey(randomBytes(32));
  const expected = new TableSums(summing);
  const walk = new ChainWalk({ key, sums: expected, checkpoints });
  let rows = 0;
  let finding: AuditFinding | undefined;
  try {
    if (damage !== undefined) throw new AuditFailure('database', 'integrity', damage);
    walk.run(reader);
    refuseCut(walk.heads, checkpoints);
    for (const table of auditedTables) rows += checkTable(reader, table, expected, summing);
  } catch (error) {
    if (!(error instanceof AuditFailure)) throw error;
    finding = error.finding;
  }
  return { entries: walk.entries, rows, heads: walk.heads, finding };
}

/** Throws `AuditFailure` where a chain ends before what was signed of it. */
export function refuseCut(heads: readonly AuditHead[], checkpoints: readonly AuditHead[]): void {
  for (const { writer, sequence } of checkpoints) {
    const head = heads.find((candidate) => candidate.writer === writer);
    if ((head?.sequence ?? 0) < sequence)
      throw new AuditFailure(
        'checkpoint',
        `${writer}/${sequence}`,
        'the chain ends before a signed checkpoint',
      );
  }
}

/** How many rows a table has. Throws `AuditFailure`, naming a row, where they are not those that the entries say. */
export function checkTable(
  reader: RecordReader,
  table: TableName,
  expected: TableSums,
  key: AuditKey,
): number {
  const sums = new TableSums(key);
  try {
    for (const row of rowsOf(reader, table)) sums.add(table, rowDigest(table, row));
  } catch (error) {
    if (error instanceof PkiError && error.code === 'record-unavailable') throw error;
    // Values that no row of this software has, and that hide the rows behind them.
    throw new AuditFailure('row', table, `a row cannot be read: ${(error as Error).message}`);
  }
  const [actual, wanted] = [sums.of(table), expected.of(table)];
  if (actual.sum !== wanted.sum || actual.rows !== wanted.rows)
    findAlteredRow(reader, table, Math.max(actual.rows, wanted.rows));
  return actual.rows;
}
