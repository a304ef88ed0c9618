import { PkiError } from '../../core/runtime/errors.ts';
import type { Migration } from './migration.ts';
import { migrationEntries } from './migration-entry.ts';

/**
 * From signatures and first lines of history that are rows of their own to one row for each issuance, with an index of ends. Rows that there are
 * stay, and are read as before; an index that costs each issuance a page goes, as what it found follows from another.
 */
export const toSchema6: Migration = {
  from: '5',
  to: '6',
  // The index of ends.
  writes: 0.1,
  prepare: async (context, reader) => {
    const { writeEntry } = await migrationEntries(toSchema6, context, reader);
    return (record) => {
      record.createMissing();
      if (record.rows.scan('issuance', { limit: 1 }).length > 0)
        throw new PkiError(
          'record-unavailable',
          'the record was altered: it has rows of a later schema; restore a backup',
        );
      record.dropIndex('mediumByholderId');
      writeEntry(record);
    };
  },
};
