import type { FeedEvent } from '../../core/feed/feed.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import { actorOfNode } from '../../core/model/act.ts';
import {
  columnsOfView,
  type ReplicatedRow,
  type ReplicatedTable,
  type ReplicatedTransaction,
  replicatedValue,
  viewsOf,
} from '../schema/replicated.ts';
import { type Columns, isSameValue } from '../schema/rows.ts';
import { EntryDraft } from './audit-entry.ts';
import type { AuditKey } from './audit-key.ts';
import type { AuditHeader, Heads, RecordWriter } from './record.ts';
import { eventsOfRow, type RowChange, type Workspace } from './workspace.ts';

/** Rows that one sealed event holds at most: bounds what a follower gets at once. */
const sealedRowsMax = 1000;

/**
 * What one commit writes: rows and events of its transactions, then what of them the CA alone must not forget, then the entry of the
 * audit chain. What is said once for all of them costs each little.
 */
export class CommitDraft {
  readonly #rows: RecordWriter;
  readonly #seal: JournalSeal | null;
  readonly #entry = new EntryDraft();
  readonly #replicated: ReplicatedRow[] = [];

  /** With a `seal` the rows that `replicated.ts` names travel in the feed, for the CA alone. */
  constructor(rows: RecordWriter, seal: JournalSeal | null) {
    this.#rows = rows;
    this.#seal = seal;
  }

  /** Writes what a transaction decided, with its events. Returns where the chains stand then. */
  apply(workspace: Workspace, header: AuditHeader): Heads {
    for (const change of workspace.changes) {
      if (!writeRow(this.#rows, change)) continue;
      const { table, key, before, row } = change;
      this.#entry.add(table, key, before, row);
      if (this.#seal) this.#replicated.push(...replicatedRows(change));
    }
    const { events, heads, writer } = workspace;
    // Events of one transaction share a row of the stream, so that a thousand pairs cost little more than one.
    const count = Math.ceil(events.length / eventsOfRow);
    for (let i = 0; i < count; i++) {
      const some = events.slice(i * eventsOfRow, (i + 1) * eventsOfRow);
      this.#writeEvents(writer, heads.position - count + 1 + i, some);
    }
    this.#entry.close(header);
    return heads;
  }

  /** Ends the commit, after the last of its transactions. Returns the new heads. */
  close(at: {
    readonly writer: string;
    readonly heads: Heads;
    readonly nowMs: number;
    readonly key: AuditKey | null;
  }): Heads {
    return this.#entry.write(this.#rows, { ...at, heads: this.#replicate(at) });
  }

  /** All that a commit reports to the CA is sealed together, under fresh randomness. */
  #replicate({ writer, heads }: { readonly writer: string; readonly heads: Heads }): Heads {
    if (!this.#seal || this.#replicated.length === 0) return heads;
    let { position } = heads;
    for (let first = 0; first < this.#replicated.length; first += sealedRowsMax) {
      position += 1;
      const rows = this.#replicated.slice(first, first + sealedRowsMax);
      const transaction: ReplicatedTransaction = { position, rows };
      const sealed = this.#seal.seal(JSON.stringify(transaction));
      this.#writeEvents(writer, position, [{ type: 'sealed', sealed }]);
    }
    this.#entry.close({ actor: actorOfNode(writer), action: 'replicate', subject: {} });
    return { ...heads, position };
  }

  #writeEvents(writer: string, position: number, events: readonly FeedEvent[]): void {
    const row = { writer, position, body: JSON.stringify(events) };
    this.#rows.insert('event', row);
    this.#entry.add('event', row, undefined, row);
  }
}

/** Whether anything was written. */
function writeRow(rows: RecordWriter, { table, key, before, row }: RowChange): boolean {
  if (row && before) rows.update(table, row, before);
  else if (row) rows.insert(table, row);
  else if (before) rows.remove(table, key);
  return (row ?? before) !== undefined;
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
