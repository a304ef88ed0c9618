import type { FeedEvent } from '../../core/feed/feed.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import { auditHash, keyValues, rowDigest } from '../schema/digest.ts';
import {
  columnsOfView,
  type ReplicatedRow,
  type ReplicatedTable,
  type ReplicatedTransaction,
  replicatedValue,
  viewsOf,
} from '../schema/replicated.ts';
import { type Columns, isSameValue } from '../schema/rows.ts';
import type { Key, Row, TableName } from '../schema/schema.ts';
import type { AuditHeader, Heads, RecordWriter } from './record.ts';
import { eventsOfRow, type RowChange, type Workspace } from './workspace.ts';

/** One row in an audit entry: its table, its key, and its digest; null where it was removed. */
type AuditedRow = readonly [table: TableName, key: (string | number)[], digest: string | null];

/**
 * Writes what a transaction decided, its events and its audit entry. Returns the heads after it. With a `seal` the rows that
 * `replicated.ts` names travel in the feed, for the CA alone.
 */
export function applyWorkspace(
  rows: RecordWriter,
  workspace: Workspace,
  by: { readonly header: AuditHeader; readonly nowMs: number; readonly seal: JournalSeal | null },
): Heads {
  const { header, nowMs, seal } = by;
  const audited: AuditedRow[] = [];
  for (const change of workspace.changes) if (writeRow(rows, change)) audited.push(auditedRow(change));
  if (seal) replicate(workspace, seal);
  writeEvents(rows, workspace, audited);
  if (audited.length === 0) return workspace.heads;
  return writeEntry(rows, workspace, { header, nowMs, audited });
}

/** Whether anything was written. */
function writeRow(rows: RecordWriter, { table, key, isStored, before, row }: RowChange): boolean {
  if (row === undefined) {
    if (isStored) rows.remove(table, key);
    return isStored;
  }
  if (isStored && before) rows.update(table, row, before);
  else {
    if (isStored) rows.remove(table, key);
    rows.insert(table, row);
  }
  return true;
}

const auditedRow = ({ table, key, row }: RowChange): AuditedRow => [
  table,
  keyValues(table, key),
  row === undefined ? null : rowDigest(table, row),
];

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
function writeEvents(rows: RecordWriter, { writer, events, heads }: Workspace, audited: AuditedRow[]): void {
  const count = Math.ceil(events.length / eventsOfRow);
  for (let i = 0; i < count; i++) {
    const some: readonly FeedEvent[] = events.slice(i * eventsOfRow, (i + 1) * eventsOfRow);
    const row = { writer, position: heads.position - count + 1 + i, body: JSON.stringify(some) };
    rows.insert('event', row);
    audited.push(['event', keyValues('event', row as Key<'event'>), rowDigest('event', row)]);
  }
}

function writeEntry(
  rows: RecordWriter,
  { writer, heads }: Workspace,
  by: { readonly header: AuditHeader; readonly nowMs: number; readonly audited: readonly AuditedRow[] },
): Heads {
  const { header, nowMs, audited } = by;
  // Time on record only goes on: a clock that was set back is recognized by it, whatever was written meanwhile.
  const atMs = header.takesBackTo ?? Math.max(nowMs, heads.atMs);
  const entry = {
    writer,
    sequence: heads.sequence + 1,
    atMs,
    actor: JSON.stringify(header.actor),
    action: header.action,
    subject: JSON.stringify(header.subject),
    changes: JSON.stringify(audited),
    previousHash: heads.hash,
  };
  const row: Row<'audit'> = { ...entry, hash: auditHash(entry) };
  rows.insert('audit', row);
  return { sequence: row.sequence, hash: row.hash, atMs, position: heads.position };
}
