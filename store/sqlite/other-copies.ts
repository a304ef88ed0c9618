import { DatabaseSync } from 'node:sqlite';
import { PkiError } from '../../core/runtime/errors.ts';
import { translate } from './sqlite.ts';

// Copies of the record that no service has open: backups, and records that a restore has replaced.

/** Whether a copy holds a data key; true also where it cannot be read, for then it may. */
export function holdsDataKey(file: string, name: string): boolean {
  try {
    using database = new DatabaseSync(file, { readOnly: true });
    return database.prepare('SELECT 1 FROM "dataKey" WHERE "name" = ?').get(name) !== undefined;
  } catch (error) {
    const known = translate(error);
    if (known instanceof PkiError) return true;
    throw known;
  }
}

/** Removes a data key from a copy, and its octets from the file. Throws `record-unavailable` where it cannot. */
export function removeDataKey(file: string, name: string): void {
  try {
    using database = new DatabaseSync(file);
    database.exec('PRAGMA secure_delete = ON; PRAGMA synchronous = FULL');
    database.prepare('DELETE FROM "dataKey" WHERE "name" = ?').run(name);
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  } catch (error) {
    throw translate(error);
  }
}
