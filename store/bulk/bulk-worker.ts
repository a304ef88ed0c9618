// A thread that carries out bulk operations over a connection of its own, so that the main thread goes on answering meanwhile. It
// is sent each step in a turn of its own (`TransactionQueue.exclusive`): the two never wait for each other's locks.
import { parentPort, workerData } from 'node:worker_threads';
import { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { shiftedClock, systemClock } from '../../core/runtime/clock.ts';
import { serveRequests } from '../../core/workers/worker.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { advanceBulkOperation, type BulkStepped } from '../rules/bulk-step.ts';
import { openSqlite } from '../sqlite/sqlite.ts';

/** How the thread begins. */
export interface BulkStart {
  readonly file: string;
  /** The writer whose name it uses, exclusively during its turn. */
  readonly writer: string;
  readonly shift: SharedArrayBuffer | null;
  /** Key of `JournalSeal`. */
  readonly journalKey: Bytes;
  /** Key of `AuditKey`. */
  readonly auditKey: Bytes;
}

export interface BulkStep {
  readonly type: 'step';
  readonly actId: string;
  /** Of one transaction. */
  readonly phones: number;
  /** See `TransactionQueue.exclusive`. */
  readonly wanted: SharedArrayBuffer;
}

const { file, writer, shift, journalKey, auditKey } = workerData as BulkStart;
const clock = shift ? shiftedClock(shift) : systemClock;
const database = openSqlite({ file, writer, clock, shared: true });
database.authenticateWith(new AuditKey(auditKey));
database.sealWith(new JournalSeal(journalKey));

/** How long a turn lasts while no other writer waits. */
const turnMs = 250;

serveRequests<BulkStep, BulkStepped | null>(parentPort, async (message) => {
  if (message.type === 'step') return takeTurn(message);
  await database.close();
  return null;
});

/** The act that was last worked on. */
let begun: string | undefined;

/** Transactions of an act, one after the other, until the turn is over. The first of all is reported at once. */
async function takeTurn(step: BulkStep): Promise<BulkStepped> {
  const isFirst = begun !== step.actId;
  begun = step.actId;
  const wanted = new Int32Array(step.wanted);
  const startMs = clock.monotonicMs();
  const altered: BulkStepped['altered'][number][] = [];
  for (;;) {
    const stepped = await advanceBulkOperation(database, step, clock.wallMs());
    altered.push(...stepped.altered);
    const { act } = stepped;
    const isOver =
      act.state !== 'running' ||
      isFirst ||
      Atomics.load(wanted, 0) === 1 ||
      clock.monotonicMs() - startMs >= turnMs;
    if (isOver) return { act, altered };
  }
}
