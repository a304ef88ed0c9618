// A thread that verifies the record again and again, over a connection of its own that only reads.
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type Closing, serveRequests } from '../../core/workers/worker.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { AuditPass } from './audit-pass.ts';
import { AuditFailure, type AuditFinding } from './finding.ts';
import { openReader, type RecordPlace } from './open-reader.ts';
import { PassFile } from './pass-file.ts';

export interface WatchStart {
  readonly place: RecordPlace;
  /** Where an unfinished pass is kept: see `PassFile`. */
  readonly passFile: string;
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
}

/** A pass works at full speed for so long, and then an eighth of the time. */
const unpacedMs = 500;
const [workMs, pauseMs] = [25, 175];
/** Between two writings of an unfinished pass. */
const saveMs = 60_000;

const { place, passFile, key: octets, stop } = workerData as WatchStart;
const key = new AuditKey(octets);
const stopped = new Int32Array(stop);
const kept = new PassFile(passFile, 'watch', { key, clock: systemClock });
/** What an earlier process had begun is continued once: a file that is put back later is not believed. */
let isFirst = true;

/** Called before each read: also those that look for an altered row end where the thread is to end. */
function refuseStopped(): void {
  if (Atomics.load(stopped, 0) === 1) throw new PkiError('record-unavailable', 'reading was stopped');
}

const record = openReader(place, refuseStopped);

/** Goes through the whole record, some slices at a time. Gives how long it worked. */
function run(pass: AuditPass): number {
  const begunMs = systemClock.monotonicMs();
  let [workedMs, savedMs] = [0, begunMs];
  for (;;) {
    const sliceMs = systemClock.monotonicMs();
    const isOver = (): boolean => systemClock.monotonicMs() - sliceMs >= workMs;
    const isDone = record.readOnce((reader) => pass.slice(reader, isOver));
    const nowMs = systemClock.monotonicMs();
    workedMs += nowMs - sliceMs;
    if (isDone) return workedMs;
    if (nowMs - begunMs < unpacedMs) continue;
    // Wakes up when the thread is to end. The record is not being read meanwhile: SQLite's log need not keep what is written.
    const isEnding = Atomics.wait(stopped, 0, 0, pauseMs) !== 'timed-out';
    if (!isEnding && nowMs - savedMs < saveMs) continue;
    kept.write(pass.state);
    savedMs = nowMs;
  }
}

function pass(): WatchPass {
  // From the first entry on, but for what an earlier process had begun: what was verified before may have been altered since.
  const state = record.readOnce((reader) => (isFirst ? kept.resume(reader) : void kept.begin(reader)));
  isFirst = false;
  const unfinished = new AuditPass({ key, entryKey: key, checkpoints: [], state });
  let finding: AuditFinding | null = null;
  let workedMs = 0;
  try {
    const damage = record.damage();
    if (damage !== undefined) throw new AuditFailure('database', 'integrity', damage);
    workedMs = run(unfinished);
  } catch (error) {
    if (!(error instanceof AuditFailure)) throw error;
    ({ finding } = error);
  }
  kept.remove();
  return { finding, rows: unfinished.progress.rows, workedMs };
}

serveRequests<{ readonly type: 'pass' }, WatchPass | null>(
  parentPort,
  async (message: Closing | { type: 'pass' }) => {
    if (message.type === 'pass') return pass();
    record.close();
    return null;
  },
);
