import type { DatabaseSync } from 'node:sqlite';
import { PkiError } from '../../core/runtime/errors.ts';

/** Does all of something to a database, or nothing. Throws `record-unavailable` where another process has it locked. */
export function transaction<R>(database: DatabaseSync, body: () => R): R {
  try {
    database.exec('BEGIN IMMEDIATE');
  } catch (error) {
    throw new PkiError('record-unavailable', 'the database is locked', { cause: error });
  }
  try {
    const result = body();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    // SQLite ends a transaction by itself on some errors.
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}
