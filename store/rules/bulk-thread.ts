// A thread that carries out mass acts over a connection of its own, so that the main thread goes on answering meanwhile. It
// is sent each bit in a turn of its own (`RecordDatabase.exclusive`): the two never wait for each other's locks.
import { parentPort, workerData } from 'node:worker_threads';
import { JournalSeal } from '../../core/feed/journal-seal.ts';
import { shiftedClock, systemClock } from '../../core/runtime/clock.ts';
import { serveRequests } from '../../core/workers/worker.ts';
import { AuditKey } from '../engine/audit-key.ts';
import type { Row } from '../schema/schema.ts';
import { openSqlite } from '../sqlite/sqlite.ts';
import { advanceBulkOperation, type BulkStart, type BulkStep } from './restrictions.ts';

const { file, writer, shift, journalKey, auditKey } = workerData as BulkStart;
const clock = shift ? shiftedClock(shift) : systemClock;
const database = openSqlite({ file, writer, clock, shared: true });
if (auditKey) database.authenticateWith(new AuditKey(auditKey));
if (journalKey) database.sealWith(new JournalSeal(journalKey));

/** How long a turn lasts while no other writer waits. */
const turnMs = 250;

serveRequests<BulkStep, Row<'massAct'> | null>(parentPort, async (message) => {
  if (message.type === 'step') return takeTurn(message);
  await database.close();
  return null;
});

/** The act that was last worked on. */
let begun: string | undefined;

/** Transactions of an act, one after the other, until the turn is over. The first of all is reported at once. */
async function takeTurn(step: BulkStep): Promise<Row<'massAct'>> {
  const isFirst = begun !== step.actId;
  begun = step.actId;
  const wanted = new Int32Array(step.wanted);
  const startMs = clock.monotonicMs();
  for (;;) {
    const act = await advanceBulkOperation(database, step, clock.wallMs());
    if (act.state !== 'running' || isFirst) return act;
    if (Atomics.load(wanted, 0) === 1 || clock.monotonicMs() - startMs >= turnMs) return act;
  }
}
