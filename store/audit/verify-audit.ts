import type { Bytes } from '../../core/runtime/bytes.ts';
import { equal, hex } from '../../core/runtime/bytes.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader } from '../engine/record.ts';
import { auditHash, keyValues, rowDigest } from '../schema/digest.ts';
import { type Row, type TableName, tables } from '../schema/schema.ts';

/** A point of a writer's chain that was signed and shipped: what lies before it cannot be cut off or replaced. */
export interface AuditHead {
  readonly writer: string;
  readonly sequence: number;
  /** SHA-256 of the entry, hex. */
  readonly hash: string;
}

export interface AuditFinding {
  /**
   * `database`: its own software finds it damaged. `entry`: a link of the chain is wrong. `row`: a row is not as its
   * last entry left it. `checkpoint`: the chain was cut off.
   */
  readonly type: 'database' | 'entry' | 'row' | 'checkpoint';
  readonly where: string;
  readonly what: string;
}

export interface AuditReport {
  readonly entries: number;
  readonly rows: number;
  readonly heads: readonly AuditHead[];
  /** The first thing that is wrong; undefined where all is as it was written. */
  readonly finding: AuditFinding | undefined;
}

/** Entries and rows read at a time. */
const pageSize = 2000;

/** Raised by the first finding; ends the walk. */
class Found extends Error {
  readonly finding: AuditFinding;

  constructor(type: AuditFinding['type'], where: string, what: string) {
    super(what);
    this.finding = { type, where, what };
  }
}

/**
 * Walks every writer's chain, then holds every row of the record against the digest that its last entry gives.
 * Memory: one digest for each row of the record.
 */
export async function verifyAudit(
  database: RecordDatabase,
  checkpoints: readonly AuditHead[],
): Promise<AuditReport> {
  const damage = await database.integrity();
  // One state of the record, so that what is written meanwhile is no false alarm.
  return database.read((reader) => verifyState(reader, checkpoints, damage));
}

function verifyState(
  reader: RecordReader,
  checkpoints: readonly AuditHead[],
  damage: string | undefined,
): AuditReport {
  const digests = new Map<string, Map<string, string | null>>();
  const heads: AuditHead[] = [];
  let [entries, rows] = [0, 0];
  let finding: AuditFinding | undefined;
  try {
    if (damage !== undefined) throw new Found('database', 'integrity', damage);
    for (const writer of writersOf(reader)) {
      const walked = walkChain(reader, writer, checkpoints, digests);
      entries += walked.entries;
      if (walked.head) heads.push(walked.head);
    }
    for (const { writer, sequence } of checkpoints) {
      const head = heads.find((candidate) => candidate.writer === writer);
      if ((head?.sequence ?? 0) < sequence) {
        throw new Found('checkpoint', `${writer}/${sequence}`, 'the chain ends before a signed checkpoint');
      }
    }
    for (const table of Object.keys(tables) as TableName[]) {
      if (table !== 'audit') rows += checkTable(reader, table, digests);
    }
    const [gone] = [...digests].filter(([, byWriter]) => ![...byWriter.values()].includes(null));
    if (gone) throw new Found('row', gone[0], 'a row that was written is gone');
  } catch (error) {
    if (!(error instanceof Found)) throw error;
    finding = error.finding;
  }
  return { entries, rows, heads, finding };
}

/** Writers by name: of the chain, and of the record, so that a chain cannot vanish whole. */
function writersOf(reader: RecordReader): string[] {
  const meta = reader.find('meta', {});
  return meta.filter(({ name }) => name.startsWith('writer:')).map(({ value }) => value);
}

function walkChain(
  reader: RecordReader,
  writer: string,
  checkpoints: readonly AuditHead[],
  digests: Map<string, Map<string, string | null>>,
): { entries: number; head: AuditHead | undefined } {
  const signed = new Map(
    checkpoints.filter((point) => point.writer === writer).map(({ sequence, hash }) => [sequence, hash]),
  );
  let previous: Bytes = new Uint8Array(32);
  let sequence = 0;
  for (let more = true; more; ) {
    const options = { after: sequence, limit: pageSize };
    const page = reader.find('audit', { writer }, options);
    for (const entry of page) {
      sequence += 1;
      checkEntry(entry, sequence, previous, signed.get(sequence));
      previous = entry.hash;
      for (const [table, key, digest] of JSON.parse(entry.changes) as [string, unknown[], string | null][]) {
        const name = JSON.stringify([table, key]);
        const byWriter = digests.get(name) ?? new Map<string, string | null>();
        digests.set(name, byWriter.set(writer, digest));
      }
    }
    more = page.length === pageSize;
  }
  return { entries: sequence, head: sequence === 0 ? undefined : { writer, sequence, hash: hex(previous) } };
}

function checkEntry(
  entry: Row<'audit'>,
  sequence: number,
  previous: Bytes,
  signed: string | undefined,
): void {
  const where = `${entry.writer}/${sequence}`;
  if (entry.sequence !== sequence) throw new Found('entry', where, 'an entry is missing');
  if (!equal(entry.previousHash, previous))
    throw new Found('entry', where, 'it does not follow the entry before it');
  if (!equal(auditHash(entry), entry.hash))
    throw new Found('entry', where, 'its hash is not that of its content');
  if (signed !== undefined && signed !== hex(entry.hash)) {
    throw new Found('checkpoint', where, 'it is not the entry of a signed checkpoint');
  }
}

function checkTable(
  reader: RecordReader,
  table: TableName,
  digests: Map<string, Map<string, string | null>>,
): number {
  const rows = reader.find(table, {});
  for (const row of rows) {
    const name = JSON.stringify([table, keyValues(table, row as never)]);
    const known = digests.get(name);
    if (!known) throw new Found('row', name, 'no entry says that it was written');
    if (![...known.values()].includes(rowDigest(table, row as never))) {
      throw new Found('row', name, 'it is not as its last entry left it');
    }
    digests.delete(name);
  }
  return rows.length;
}
