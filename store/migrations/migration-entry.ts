import { must, PkiError } from '../../core/runtime/errors.ts';
import { migrateAction, writersOf } from '../audit/chains.ts';
import { EntryDraft } from '../engine/audit-entry.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { readHeads } from '../engine/heads.ts';
import type { RecordReader } from '../engine/record.ts';
import { findRecordKey } from '../rules/record-keys.ts';
import type { MigratedRecord } from '../sqlite/migration-connection.ts';
import type { Migration, MigrationContext } from './migration.ts';

/** Writes the schema that a record has from now on, with an entry of the audit chain that says so and what `add` wrote. */
export type WriteEntry = (record: MigratedRecord, add?: (draft: EntryDraft) => void) => void;

/** Prepares the entry of one step; throws `record-unavailable` where the record has lost the key of its chain. */
export async function migrationEntry(
  { from, to }: Pick<Migration, 'from' | 'to'>,
  { keyWrapper, actor }: MigrationContext,
  reader: RecordReader,
): Promise<WriteEntry> {
  const key = await findRecordKey({ read: async (body) => body(reader) }, keyWrapper, 'audit');
  if (!key) throw new PkiError('record-unavailable', 'the record has lost its key: audit; restore a backup');
  return ({ rows }, add) => {
    const draft = new EntryDraft();
    const [before, schema] = [
      must(rows.get('meta', { name: 'schema' }), 'schema'),
      { name: 'schema', value: to },
    ];
    rows.update('meta', schema, before);
    draft.add('meta', schema, before, schema);
    add?.(draft);
    const [writer] = writersOf(rows);
    if (writer === undefined) throw new PkiError('record-unavailable', 'the record names no writer');
    draft.close({ actor, action: migrateAction, subject: { from, to, tables: {} } }, 'always');
    const heads = readHeads(rows, writer);
    draft.write(rows, { writer, heads, nowMs: heads.atMs, key: new AuditKey(key) });
  };
}
