import { randomBytes } from 'node:crypto';
import type { Clock } from '../../core/runtime/clock.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import { AuditPass, type PassProgress } from './audit-pass.ts';
import { AuditFailure, type AuditFinding, type AuditHead } from './finding.ts';
import type { PassFile } from './pass-file.ts';

/** A record that is read by bodies that run once, and keep what they have read: SQLite's, or that of a `BlockingReader`. */
export interface VerifiableRecord {
  readOnce<R>(body: (reader: RecordReader) => R): R | Promise<R>;
  integrity(): Promise<string | undefined>;
}

export interface AuditReport {
  readonly entries: number;
  readonly rows: number;
  readonly heads: readonly AuditHead[];
  /** Whether a part of it was verified by a process that ended before. */
  readonly resumed: boolean;
  /** The first thing that is wrong; undefined where all is as it was written. */
  readonly finding: AuditFinding | undefined;
}

/** One state of the record is read for so long. */
const sliceMs = 200;
/** Between two writings of the state. */
const saveMs = 5_000;

/**
 * Walks every writer's chain, and compares the sum that its entries imply with the sum of the rows, table by table (`AuditPass`).
 * Memory does not grow with the record. Without a `key` entries are not authenticated: then a chain that was written again whole is
 * found by its checkpoints alone, and a record of schema 3 that was migrated cannot be verified. With a `file` a pass that was
 * interrupted is continued.
 */
export async function verifyAudit(
  record: VerifiableRecord,
  checkpoints: readonly AuditHead[],
  key: AuditKey | null,
  { file, tell = () => undefined, clock = systemClock }: VerifyOptions = {},
): Promise<AuditReport> {
  const state = file && (await record.readOnce((reader) => file.resume(reader)));
  const pass = new AuditPass({
    key: key ?? new AuditKey(randomBytes(32)),
    entryKey: key,
    checkpoints,
    state,
  });
  let finding: AuditFinding | undefined;
  try {
    const damage = state ? undefined : await record.integrity();
    if (damage !== undefined) throw new AuditFailure('database', 'integrity', damage);
    let savedMs = clock.monotonicMs();
    for (let isDone = false; !isDone; tell(pass.progress)) {
      const endMs = clock.monotonicMs() + sliceMs;
      isDone = await record.readOnce((reader) => pass.slice(reader, () => clock.monotonicMs() >= endMs));
      if (!file || isDone || endMs - savedMs < saveMs) continue;
      file.write(pass.state);
      savedMs = endMs;
    }
  } catch (error) {
    if (!(error instanceof AuditFailure)) throw error;
    finding = error.finding;
  }
  file?.remove();
  const { entries, rows } = pass.progress;
  return { entries, rows, heads: pass.heads, resumed: state !== undefined, finding };
}

interface VerifyOptions {
  readonly file?: PassFile;
  /** Called after each slice. */
  readonly tell?: (progress: PassProgress) => void;
  readonly clock?: Clock;
}
