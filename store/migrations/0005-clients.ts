import { foldedName } from '../../core/model/client-name.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import type { Migration } from './migration.ts';
import { migrationEntries } from './migration-entry.ts';

/**
 * From clients that are certificates to clients that are persons or systems, of one name for all of their certificates. Those that there
 * are become systems, each under the name that it has: two of one name stay two, and no third gets it.
 */
export const toSchema5: Migration = {
  from: '4',
  to: '5',
  // With the indexes that tables have today.
  writes: 0.1,
  prepare: async (context, reader) => {
    const { writeEntry } = await migrationEntries(toSchema5, context, reader);
    return (record) => {
      const { rows } = record;
      record.createMissing();
      if (rows.scan('clientIdentity', { limit: 1 }).length > 0)
        throw new PkiError(
          'record-unavailable',
          'the record was altered: it has rows of a later schema; restore a backup',
        );
      writeEntry(record, (draft) => {
        for (const row of identitiesIn(rows)) {
          rows.insert('clientIdentity', row);
          draft.add('clientIdentity', row, undefined, row);
        }
        return [];
      });
    };
  },
};

function identitiesIn(reader: RecordReader): Row<'clientIdentity'>[] {
  const clients = reader.find('client', {}).sort((a, b) => a.addedMs - b.addedMs);
  const rows = clients.map(({ fingerprint, name, addedMs }) => {
    const clientId = reader.get('clientTerm', { fingerprint })?.clientId ?? fingerprint;
    return { clientId, name, foldedName: foldedName(name), kind: 'system', addedMs };
  });
  // The first certificate of each client says when it was added.
  return [...new Map(rows.reverse().map((row) => [row.clientId, row])).values()];
}
