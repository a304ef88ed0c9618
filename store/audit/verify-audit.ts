import { randomBytes } from 'node:crypto';
import { AuditKey } from '../engine/audit-key.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader } from '../engine/record.ts';
import { rowDigest } from '../schema/digest.ts';
import type { TableName } from '../schema/schema.ts';
import { ChainWalk } from './chains.ts';
import { TableSums } from './digest-sum.ts';
import { type AuditFinding, type AuditHead, Found } from './finding.ts';
import { locate } from './locate.ts';
import { auditedTables, rowsOf } from './table-rows.ts';

export interface AuditReport {
  readonly entries: number;
  readonly rows: number;
  readonly heads: readonly AuditHead[];
  /** The first thing that is wrong; undefined where all is as it was written. */
  readonly finding: AuditFinding | undefined;
}

/**
 * Walks every writer's chain, and holds the sum of what its entries say against the sum of all rows of the record, table by
 * table. Memory does not grow with the record. Without a `key` entries are not authenticated: then a chain that was written
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
  const said = new TableSums(summing);
  const walk = new ChainWalk({ key, sums: said, checkpoints });
  let rows = 0;
  let finding: AuditFinding | undefined;
  try {
    if (damage !== undefined) throw new Found('database', 'integrity', damage);
    walk.advance(reader);
    refuseCut(walk.heads, checkpoints);
    for (const table of auditedTables) rows += checkTable(reader, table, said, summing);
  } catch (error) {
    if (!(error instanceof Found)) throw error;
    finding = error.finding;
  }
  return { entries: walk.entries, rows, heads: walk.heads, finding };
}

/** Throws `Found` where a chain ends before what was signed of it. */
export function refuseCut(heads: readonly AuditHead[], checkpoints: readonly AuditHead[]): void {
  for (const { writer, sequence } of checkpoints) {
    const head = heads.find((candidate) => candidate.writer === writer);
    if ((head?.sequence ?? 0) < sequence)
      throw new Found('checkpoint', `${writer}/${sequence}`, 'the chain ends before a signed checkpoint');
  }
}

/** How many rows a table has. Throws `Found`, naming a row, where they are not those that the entries say. */
export function checkTable(reader: RecordReader, table: TableName, said: TableSums, key: AuditKey): number {
  const found = new TableSums(key);
  for (const row of rowsOf(reader, table)) found.add(table, rowDigest(table, row));
  const [is, should] = [found.of(table), said.of(table)];
  if (is.sum !== should.sum || is.rows !== should.rows) locate(reader, table, Math.max(is.rows, should.rows));
  return is.rows;
}
