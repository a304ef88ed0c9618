import type { FeedEvent } from '../../core/feed/feed.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';
import { type Columns, compareBy, hasValues, isSameValue, nameOf } from '../schema/rows.ts';
import { describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import { idSource } from './ids.ts';
import type { DueTable, FindOptions, Heads, RecordReader, ScanOptions, Transaction } from './record.ts';

// What one transaction does, until it is decided: nothing is written before the rule has said all of it, so that a rule that
// refuses leaves nothing behind, and one that runs again starts from an empty workspace.

/** One row that a transaction writes. */
export interface RowChange {
  readonly table: TableName;
  readonly key: Key<TableName>;
  /** The row on record; undefined where there is none. */
  readonly before: Row<TableName> | undefined;
  /** The row as it will be; undefined where it is removed. */
  row: Row<TableName> | undefined;
}

/** Events that one row of the stream holds at most: bounds what a follower gets at once. */
export const eventsOfRow = 200;

/** The changes of one table. */
interface TableChanges {
  readonly byKey: Map<string, RowChange>;
  /** Rows that a look-up by an index would not find on record: new ones, and those whose indexed columns changed. */
  readonly added: Set<RowChange>;
}

/** Gathers what a transaction writes, over the record as it is; reads see both. */
export class Workspace implements Transaction {
  readonly writer: string;
  readonly #source: RecordReader;
  readonly #tables = new Map<TableName, TableChanges>();
  /** In the order in which rows were first written. */
  readonly changes: RowChange[] = [];
  readonly events: FeedEvent[] = [];
  #heads: Heads;
  readonly #seed: Bytes;
  #ids: ((ms: number) => string) | undefined;

  constructor(
    source: RecordReader,
    { writer, heads, seed }: { readonly writer: string; readonly heads: Heads; readonly seed: Bytes },
  ) {
    this.#source = source;
    this.writer = writer;
    this.#heads = heads;
    this.#seed = seed;
  }

  newId(ms: number): string {
    this.#ids ??= idSource(this.#seed);
    return this.#ids(ms);
  }

  get heads(): Heads {
    return this.#heads;
  }

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const change = this.#tables.get(table)?.byKey.get(nameOf(table, key));
    return change ? (change.row as Row<T> | undefined) : this.#source.get(table, key);
  }

  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
    columns: readonly C[],
  ): Pick<Row<T>, C> | undefined {
    const isChanged = this.#tables.get(table)?.byKey.has(nameOf(table, key)) ?? false;
    return isChanged ? this.get(table, key) : this.#source.part(table, key, columns);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    const changes = this.#tables.get(table);
    if (!changes) return this.#source.find(table, where, options);
    const present = (stored: readonly Row<T>[]): Row<T>[] =>
      stored.flatMap((row) => {
        const change = changes.byKey.get(nameOf(table, row as unknown as Key<T>));
        if (!change) return [row];
        return change.row && hasValues(change.row, where) ? [change.row as Row<T>] : [];
      });
    const stored = this.#source.find(table, where, options);
    let rows = present(stored);
    // Of those that are gone, others take the place.
    if (options.limit !== undefined && rows.length < stored.length)
      rows = present(this.#source.find(table, where, { ...options, limit: undefined }));
    const found = new Set(rows);
    const key = describe(table).key;
    const last = key.at(-1) ?? '';
    const sign = options.descending ? -1 : 1;
    for (const { row } of changes.added) {
      if (!row || found.has(row as Row<T>) || !hasValues(row, where)) continue;
      const isBehind =
        options.after === undefined || sign * (Number((row as Columns)[last]) - options.after) > 0;
      if (isBehind) rows.push(row as Row<T>);
    }
    return rows.sort((a, b) => sign * compareBy(key, a, b)).slice(0, options.limit);
  }

  findDue<T extends DueTable>(table: T, beforeMs: number, limit: number, where?: Partial<Row<T>>): Row<T>[] {
    this.#refuseWritten(table);
    return this.#source.findDue(table, beforeMs, limit, where);
  }

  scan<T extends TableName>(table: T, options: ScanOptions<T>): Row<T>[] {
    this.#refuseWritten(table);
    return this.#source.scan(table, options);
  }

  insert<T extends TableName>(table: T, row: Row<T>): void {
    const key = row as unknown as Key<T>;
    const changes = this.#changesOf(table);
    const name = nameOf(table, key);
    const change = changes.byKey.get(name);
    invariant(change?.row === undefined, `a row with that key was written in ${table}`);
    if (change) {
      change.row = row;
      changes.added.add(change);
    } else changes.added.add(this.#add(changes, name, { table, key, before: undefined, row }));
  }

  insertNew<T extends TableName>(table: T, row: Row<T>): boolean {
    if (this.get(table, row as unknown as Key<T>)) return false;
    this.insert(table, row);
    return true;
  }

  update<T extends TableName>(table: T, row: Row<T>, before: Row<T>): void {
    const key = row as unknown as Key<T>;
    const changes = this.#changesOf(table);
    const name = nameOf(table, key);
    const known = changes.byKey.get(name);
    const change = known ?? this.#add(changes, name, { table, key, before, row });
    change.row = row;
    if (isMoved(table, row, before)) changes.added.add(change);
  }

  remove<T extends TableName>(table: T, key: Key<T>): void {
    const changes = this.#changesOf(table);
    const name = nameOf(table, key);
    const known = changes.byKey.get(name);
    if (known) known.row = undefined;
    else this.#add(changes, name, { table, key, before: this.#source.get(table, key), row: undefined });
  }

  appendEvent(event: FeedEvent): void {
    const isFirstOfRow = this.events.length % eventsOfRow === 0;
    if (isFirstOfRow) this.#heads = { ...this.#heads, position: this.#heads.position + 1 };
    this.events.push(event);
  }

  #changesOf(table: TableName): TableChanges {
    const known = this.#tables.get(table);
    if (known) return known;
    const changes = { byKey: new Map<string, RowChange>(), added: new Set<RowChange>() };
    this.#tables.set(table, changes);
    return changes;
  }

  #add(changes: TableChanges, name: string, change: RowChange): RowChange {
    changes.byKey.set(name, change);
    this.changes.push(change);
    return change;
  }

  /** A scan sees the record: what this transaction wrote would be missing. */
  #refuseWritten(table: TableName): void {
    invariant(!this.#tables.has(table), `${table} is scanned after it was written in the same transaction`);
  }
}

/** Whether a column by which rows are looked up differs. */
function isMoved(table: TableName, row: object, before: object): boolean {
  const { indexes = [], sparseIndexes = [] } = describe(table);
  const [now, then] = [row, before] as [Columns, Columns];
  const all = [...indexes, ...sparseIndexes.map(({ columns }) => columns)];
  return all.some((columns) => columns.some((name) => !isSameValue(now[name], then[name])));
}
