import type { FeedEvent } from '../../core/feed/feed.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import {
  columnsOfView,
  type ReplicatedRow,
  type ReplicatedTable,
  type ReplicatedTransaction,
  replicatedValue,
  viewsOf,
} from '../schema/replicated.ts';
import { type Columns, isSameValue } from '../schema/rows.ts';
import type { EntryDraft } from './audit-entry.ts';
import type { AuditHeader, Heads, RecordWriter } from './record.ts';
import { eventsOfRow, type RowChange, type Workspace } from './workspace.ts';

/**
 * Writes what a transaction decided, and its events; `entry` gathers what the audit chain says of it. Returns the heads, with the
 * events. With a `seal` the rows that `replicated.ts` names travel in the feed, for the CA alone.
 */
export function applyWorkspace(
  rows: RecordWriter,
  workspace: Workspace,
  by: { readonly header: AuditHeader; readonly entry: EntryDraft; readonly seal: JournalSeal | null },
): Heads {
  const { header, entry, seal } = by;
  for (const change of workspace.changes) {
    if (!writeRow(rows, change)) continue;
    const { table, key, before, row } = change;
    entry.add(table, key, before, row);
  }
  if (seal) replicate(workspace, seal);
  writeEvents(rows, workspace, entry);
  entry.close(header);
  return workspace.heads;
}

/** Whether anything was written. */
function writeRow(rows: RecordWriter, { table, key, before, row }: RowChange): boolean {
  if (row && before) rows.update(table, row, before);
  else if (row) rows.insert(table, row);
  else if (before) rows.remove(table, key);
  return (row ?? before) !== undefined;
}

/** All that a transaction reports to the CA is one event, under fresh randomness. */
function replicate(workspace: Workspace, seal: JournalSeal): void {
  const rows = workspace.changes.flatMap(replicatedRows);
  if (rows.length === 0) return;
  // Of the row that the event will be in.
  const begins = workspace.events.length % eventsOfRow === 0;
  const position = workspace.heads.position + (begins ? 1 : 0);
  const transaction: ReplicatedTransaction = { position, rows };
  workspace.appendEvent({ type: 'sealed', sealed: seal.seal(JSON.stringify(transaction)) });
}

/** What followers keep of a row for the CA: views of it that have news. */
function replicatedRows({ table, row, before }: RowChange): ReplicatedRow[] {
  if (row === undefined) return [];
  const [now, then] = [row, before ?? null] as unknown as [Columns, Columns | null];
  return viewsOf(table).flatMap((columns, view): ReplicatedRow[] => {
    const isNews = then
      ? columns.some((name) => !isSameValue(now[name], then[name]))
      : view === 0 || columns.some((name) => (now[name] ?? null) !== null);
    if (!isNews) return [];
    const values = columnsOfView(table, view).map((name) => replicatedValue(now[name] ?? null));
    return [[table as ReplicatedTable, view, values]];
  });
}

/** Events of one transaction share a row of the stream, so that a thousand pairs cost little more than one. */
function writeEvents(rows: RecordWriter, { writer, events, heads }: Workspace, entry: EntryDraft): void {
  const count = Math.ceil(events.length / eventsOfRow);
  for (let i = 0; i < count; i++) {
    const some: readonly FeedEvent[] = events.slice(i * eventsOfRow, (i + 1) * eventsOfRow);
    const row = { writer, position: heads.position - count + 1 + i, body: JSON.stringify(some) };
    rows.insert('event', row);
    entry.add('event', row, undefined, row);
  }
}
