// A thread that brings SQLite's log into the file, so that the thread that writes the record need not: pages of many
// tables lie everywhere, and take long to write and to sync. It takes a message, and answers when it is done.
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';

const database = new DatabaseSync((workerData as { file: string }).file, { timeout: 0 });
database.exec('PRAGMA synchronous = NORMAL');
// PASSIVE neither waits nor blocks; pages in use stay for the next time.
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
    // The log keeps what could not be copied; if the disk fails, the next writer gets the error.
    failure = (error as Error).message;
  }
  parentPort?.postMessage(failure);
});
