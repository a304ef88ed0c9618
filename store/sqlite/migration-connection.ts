import { statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordWriter } from '../engine/record.ts';
import { SqliteRows } from './rows.ts';
import { ddl, translate } from './sqlite.ts';

/** A record of an earlier version, while it is brought to this one's. */
export interface MigratedRecord extends Disposable {
  readonly rows: RecordWriter;
  /** undefined for one that was never opened. */
  schema(): string | undefined;
  /** Throws `record-unavailable` where the disk has no room for such a share of the record, or for 64 MiB. */
  refuseWithoutRoom(share: number): void;
  rename(table: string, to: string): void;
  /** Does nothing where there is none. */
  dropIndex(name: string): void;
  /** Makes the tables of this version that there are not. */
  createMissing(): void;
  /** Does all of it, on disk when this returns, or nothing. */
  transaction(act: () => void): void;
}

/** Free octets that a disk must have whatever is written. */
const roomMin = 64 * 2 ** 20;

export function openForMigration(file: string): MigratedRecord {
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(file, { timeout: 5000 });
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON');
  } catch (error) {
    throw translate(error);
  }
  const names = (): string[] =>
    database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
      .all()
      .map(({ name }) => String(name));
  const rows = new SqliteRows(database);
  return {
    rows,
    schema: () => (names().includes('meta') ? rows.get('meta', { name: 'schema' })?.value : undefined),
    refuseWithoutRoom: (share) => {
      const { bavail, bsize } = statfsSync(dirname(file));
      const needed = Math.max(roomMin, Math.ceil(statSync(file).size * share));
      if (bavail * bsize >= needed) return;
      throw new PkiError(
        'record-unavailable',
        `bringing ${file} to this version needs ${needed} octets of disk, and ${bavail * bsize} are free`,
      );
    },
    rename: (table, to) => database.exec(`ALTER TABLE "${table}" RENAME TO "${to}"`),
    dropIndex: (name) => database.exec(`DROP INDEX IF EXISTS "${name}"`),
    createMissing: () => database.exec(ddl().join(';\n')),
    transaction: (act) => {
      try {
        database.exec('BEGIN IMMEDIATE');
        act();
        database.exec('COMMIT');
      } catch (error) {
        if (database.isTransaction) database.exec('ROLLBACK');
        throw translate(error);
      }
    },
    [Symbol.dispose]: () => database.close(),
  };
}
