// A thread that carries out mass acts over a connection of its own, so that the main thread goes on answering meanwhile. It
// is told each bit in a turn of its own (`RecordDatabase.exclusive`): the two never wait for each other's locks.
import { parentPort, workerData } from 'node:worker_threads';
import { shiftedClock, systemClock } from '../core/clock.ts';
import { obeyAll } from '../core/thread.ts';
import { advanceMassAct, type MassActStart, type MassActStep } from './restrictions.ts';
import type { Row } from './schema.ts';
import { openSqlite } from './sqlite.ts';

const { file, writer, shift } = workerData as MassActStart;
const clock = shift ? shiftedClock(shift) : systemClock;
const database = openSqlite({ file, writer, clock, shared: true });

obeyAll<MassActStep, Row<'massAct'> | null>(parentPort, async (told) => {
  if (told.type === 'step') return advanceMassAct(database, told, clock.wallMs());
  await database.close();
  return null;
});
