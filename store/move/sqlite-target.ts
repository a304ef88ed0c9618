import { chmodSync, closeSync, openSync } from 'node:fs';
import { keyValues } from '../schema/digest.ts';
import { type TableName, tables } from '../schema/schema.ts';
import { openForMigration } from '../sqlite/migration-connection.ts';
import type { CopyTarget } from './copy-record.ts';

/** A file that a record is copied into. */
export interface FileCopy extends CopyTarget {
  isEmpty(): Promise<boolean>;
  close(): Promise<void>;
}

/** Opens a file, made where there is none, readable by its owner alone. */
export function openCopyFile(file: string): FileCopy {
  closeSync(openSync(file, 'a', 0o600));
  chmodSync(file, 0o600);
  const record = openForMigration(file);
  record.createMissing();
  const lastKey = (table: TableName): (string | number)[] | null => {
    const [row] = record.rows.find(table, {}, { descending: true, limit: 1 });
    return row ? keyValues(table, row) : null;
  };
  return {
    lastKey: async (table) => lastKey(table),
    write: async (table, rows) =>
      record.transaction(() => {
        for (const row of rows) record.rows.insert(table, row);
      }),
    isEmpty: async () => (Object.keys(tables) as TableName[]).every((table) => lastKey(table) === null),
    close: async () => record[Symbol.dispose](),
  };
}
