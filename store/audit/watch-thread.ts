// A thread that verifies the record again and again, over a connection of its own that only reads.
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type Closing, serveRequests } from '../../core/workers/worker.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { openSqliteReader } from '../sqlite/sqlite.ts';
import { ChainWalk } from './chains.ts';
import { TableSums } from './digest-sum.ts';
import { AuditFailure, type AuditFinding } from './finding.ts';
import { auditedTables } from './table-rows.ts';
import { checkTable } from './verify-audit.ts';

export interface WatchStart {
  readonly file: string;
  /** Key of `AuditKey`. */
  readonly key: Uint8Array;
  /** One 32-bit integer, which becomes 1 when the thread is to end, whatever it does. */
  readonly stop: SharedArrayBuffer;
}

export interface WatchPass {
  readonly finding: AuditFinding | null;
  readonly rows: number;
  /** Time that the thread worked, without its pauses. */
  readonly workedMs: number;
  /** Whether the record was too large to be read to its end. */
  readonly isTooLarge: boolean;
}

/** A pass works at full speed for so long, and then an eighth of the time. */
const unpacedMs = 500;
const slice = { workMs: 25, pauseMs: 175 } as const;
/** A pass reads one state of the record, of which SQLite keeps all that is written meanwhile: it lasts no longer. */
const passMsMax = 600_000;

class TooLarge extends PkiError {
  constructor() {
    super('record-unavailable', 'the record is too large to be read in one pass');
  }
}

const { file, key: octets, stop } = workerData as WatchStart;
const key = new AuditKey(octets);
const stopped = new Int32Array(stop);
let begunMs = 0;
let sliceMs = 0;
let pausedMs = 0;

/** Called before each page is read. */
function pace(): void {
  if (Atomics.load(stopped, 0) === 1) throw new PkiError('record-unavailable', 'reading was stopped');
  const nowMs = systemClock.monotonicMs();
  if (nowMs - begunMs > passMsMax) throw new TooLarge();
  if (nowMs - begunMs < unpacedMs || nowMs - sliceMs < slice.workMs) return;
  // Wakes up when the thread is to end.
  Atomics.wait(stopped, 0, 0, slice.pauseMs);
  sliceMs = systemClock.monotonicMs();
  pausedMs += sliceMs - nowMs;
}

const record = openSqliteReader(file, pace);

function pass(): WatchPass {
  begunMs = systemClock.monotonicMs();
  pausedMs = 0;
  let isTooLarge = false;
  let rows = 0;
  let finding: AuditFinding | null = null;
  // From the first entry on: one that was verified before may have been altered since.
  const expected = new TableSums(key);
  const walk = new ChainWalk({ key, sums: expected, checkpoints: [] });
  try {
    const damage = record.damage();
    if (damage !== undefined) throw new AuditFailure('database', 'integrity', damage);
    // One state of the record: entries and rows of the same moment.
    record.read((reader) => {
      walk.run(reader);
      for (const table of auditedTables) rows += checkTable(reader, table, expected, key);
    });
  } catch (error) {
    if (error instanceof AuditFailure) ({ finding } = error);
    else if (error instanceof TooLarge) isTooLarge = true;
    else throw error;
  }
  return { finding, rows, isTooLarge, workedMs: systemClock.monotonicMs() - begunMs - pausedMs };
}

serveRequests<{ readonly type: 'pass' }, WatchPass | null>(
  parentPort,
  async (message: Closing | { type: 'pass' }) => {
    if (message.type === 'pass') return pass();
    record.close();
    return null;
  },
);
