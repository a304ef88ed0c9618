// A thread that brings SQLite's log into the file, so that the thread that writes the record need not: pages of many
// tables lie everywhere, and take long to write and to sync. Told with a message, it answers when it is done.
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';

const database = new DatabaseSync((workerData as { file: string }).file, { timeout: 0 });
database.exec('PRAGMA synchronous = NORMAL');
// PASSIVE waits for nobody, and nobody for it; what is in use stays for the next time.
const checkpoint = database.prepare('PRAGMA wal_checkpoint(PASSIVE)');

parentPort?.on('message', (asked: 'checkpoint' | 'close') => {
  if (asked === 'close') {
    database.close();
    parentPort?.close();
    return;
  }
  let failure: string | null = null;
  try {
    checkpoint.all();
  } catch (error) {
    // The log keeps what could not be brought over; a disk that fails is met by whoever writes.
    failure = (error as Error).message;
  }
  parentPort?.postMessage(failure);
});
