import { foldedName } from '../../core/model/client-name.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import { migrateAction, writersOf } from '../audit/chains.ts';
import { EntryDraft } from '../engine/audit-entry.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { readHeads } from '../engine/heads.ts';
import type { RecordReader } from '../engine/record.ts';
import { findRecordKey } from '../rules/record-keys.ts';
import type { Row } from '../schema/schema.ts';
import type { Migration } from './migration.ts';

/**
 * From clients that are certificates to clients that are persons or systems, of one name for all of their certificates. Those that there
 * are become systems, each under the name that it has: two of one name stay two, and no third gets it.
 */
export const toSchema5: Migration = {
  from: '4',
  to: '5',
  writes: 0.01,
  prepare: async ({ keyWrapper, actor }, reader) => {
    const key = await findRecordKey({ read: async (body) => body(reader) }, keyWrapper, 'audit');
    if (!key)
      throw new PkiError('record-unavailable', 'the record has lost its key: audit; restore a backup');
    return ({ rows, createMissing }) => {
      createMissing();
      if (rows.scan('clientIdentity', { limit: 1 }).length > 0)
        throw new PkiError(
          'record-unavailable',
          'the record was altered: it has rows of a later schema; restore a backup',
        );
      const draft = new EntryDraft();
      const [before, schema] = [
        must(rows.get('meta', { name: 'schema' }), 'schema'),
        { name: 'schema', value: '5' },
      ];
      rows.update('meta', schema, before);
      draft.add('meta', schema, before, schema);
      for (const row of identitiesIn(rows)) {
        rows.insert('clientIdentity', row);
        draft.add('clientIdentity', row, undefined, row);
      }
      const [writer] = writersOf(rows);
      if (writer === undefined) throw new PkiError('record-unavailable', 'the record names no writer');
      draft.close({ actor, action: migrateAction, subject: { from: '4', to: '5', tables: {} } }, 'always');
      const heads = readHeads(rows, writer);
      draft.write(rows, { writer, heads, nowMs: heads.atMs, key: new AuditKey(key) });
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
