// A thread that verifies the record again and again, over a connection of its own that only reads.
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../core/runtime/clock.ts';
import { type Closing, serveRequests } from '../../core/workers/worker.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { openSqliteReader } from '../sqlite/sqlite.ts';
import { ChainWalk } from './chains.ts';
import { TableSums } from './digest-sum.ts';
import { type AuditFinding, Found } from './finding.ts';
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
const said = new TableSums(key);
// Entries that were verified once are not walked again: only that the last of them is still there.
const walk = new ChainWalk({ key, sums: said, checkpoints: [] });

function pass(): WatchPass {
  const startMs = systemClock.monotonicMs();
  let rows = 0;
  let finding: AuditFinding | null = null;
  try {
    // One state of the record: entries and rows of the same moment.
    record.read((reader) => {
      walk.advance(reader);
      for (const table of auditedTables) rows += checkTable(reader, table, said, key);
    });
  } catch (error) {
    if (!(error instanceof Found)) throw error;
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
