// A thread that verifies the record again and again, over a connection of its own that only reads.
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../core/runtime/clock.ts';
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
  readonly tookMs: number;
}

const { file, key: octets, stop } = workerData as WatchStart;
const key = new AuditKey(octets);
const record = openSqliteReader(file, () => Atomics.load(new Int32Array(stop), 0) === 1);
function pass(): WatchPass {
  const startMs = systemClock.monotonicMs();
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
    if (!(error instanceof AuditFailure)) throw error;
    ({ finding } = error);
  }
  return { finding, rows, tookMs: systemClock.monotonicMs() - startMs };
}

serveRequests<{ readonly type: 'pass' }, WatchPass | null>(
  parentPort,
  async (message: Closing | { type: 'pass' }) => {
    if (message.type === 'pass') return pass();
    record.close();
    return null;
  },
);
