import type { FeedEvent } from '../../core/feed/feed.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import { migrateAction, writersOf } from '../audit/chains.ts';
import { EntryDraft } from '../engine/audit-entry.ts';
import { AuditKey } from '../engine/audit-key.ts';
import { readHeads } from '../engine/heads.ts';
import type { RecordReader } from '../engine/record.ts';
import { findRecordKey } from '../rules/record-keys.ts';
import type { MigratedRecord } from '../sqlite/migration-connection.ts';
import type { Migration, MigrationContext } from './migration.ts';

/** Writes rows and names them in a draft; gives the events that followers receive of it. */
type Add = (draft: EntryDraft) => readonly FeedEvent[];

/** Writes entries of the audit chain of one step. */
export interface MigrationEntries {
  /** The schema that a record has from now on, with an entry that says so and what `add` wrote. */
  writeEntry(record: MigratedRecord, add?: Add): void;
  /** One more, of what else the step writes. */
  writeMore(record: MigratedRecord, add: Add): void;
}

/** Prepares the entries of one step; throws `record-unavailable` where the record has lost the key of its chain. */
export async function migrationEntries(
  { from, to }: Pick<Migration, 'from' | 'to'>,
  { keyWrapper, actor }: MigrationContext,
  reader: RecordReader,
): Promise<MigrationEntries> {
  const key = await findRecordKey({ read: async (body) => body(reader) }, keyWrapper, 'audit');
  if (!key) throw new PkiError('record-unavailable', 'the record has lost its key: audit; restore a backup');
  const auditKey = new AuditKey(key);
  const write = ({ rows }: MigratedRecord, draft: EntryDraft, events: readonly FeedEvent[]): void => {
    const [writer] = writersOf(rows);
    if (writer === undefined) throw new PkiError('record-unavailable', 'the record names no writer');
    const heads = readHeads(rows, writer);
    if (events.length > 0) {
      const row = { writer, position: heads.position + 1, body: JSON.stringify(events) };
      rows.insert('event', row);
      draft.add('event', row, undefined, row);
    }
    draft.close({ actor, action: migrateAction, subject: { from, to, tables: {} } }, 'always');
    draft.write(rows, { writer, heads, nowMs: heads.atMs, key: auditKey });
  };
  return {
    writeEntry: (record, add) => {
      const { rows } = record;
      const draft = new EntryDraft();
      const before = must(rows.get('meta', { name: 'schema' }), 'schema');
      const schema = { name: 'schema', value: to };
      rows.update('meta', schema, before);
      draft.add('meta', schema, before, schema);
      write(record, draft, add?.(draft) ?? []);
    },
    writeMore: (record, add) => {
      const draft = new EntryDraft();
      write(record, draft, add(draft));
    },
  };
}
