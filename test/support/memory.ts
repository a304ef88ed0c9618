import {
  type DueTable,
  dueColumn,
  type FindOptions,
  type RecordWriter,
  type ScanOptions,
} from '../../store/engine/record.ts';
import { compareBy, hasValues, nameOf } from '../../store/schema/rows.ts';
import { describe, type Key, type Row, type TableName } from '../../store/schema/schema.ts';

type AnyRow = Readonly<Record<string, string | number | Uint8Array | null>>;

/** Tables as maps: the simplest thing that can be right, to hold the other implementations against. */
export class MemoryRows implements RecordWriter {
  readonly #tables = new Map<TableName, Map<string, AnyRow>>();
  #undo: (() => void)[] = [];

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    return structuredClone(this.#rows(table).get(nameOf(table, key))) as Row<T> | undefined;
  }

  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
  ): Pick<Row<T>, C> | undefined {
    return this.get(table, key);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    const last = describe(table).key.at(-1) ?? '';
    const sign = options.descending ? -1 : 1;
    return [...this.#rows(table).values()]
      .filter((row) => hasValues(row, where))
      .filter((row) => options.after === undefined || sign * (Number(row[last]) - options.after) > 0)
      .sort((a, b) => sign * compareBy(describe(table).key, a, b))
      .slice(0, options.limit)
      .map((row) => structuredClone(row) as unknown as Row<T>);
  }

  findDue<T extends DueTable>(
    table: T,
    beforeMs: number,
    limit: number,
    where: Partial<Row<T>> = {},
  ): Row<T>[] {
    const timeOf = (row: AnyRow): number => Number(row[dueColumn[table]] ?? Number.POSITIVE_INFINITY);
    const due = [...this.#rows(table).values()]
      .filter((row) => hasValues(row, where))
      .filter((row) => timeOf(row) < beforeMs)
      .sort((a, b) => timeOf(a) - timeOf(b));
    return structuredClone(due.slice(0, limit)) as unknown as Row<T>[];
  }

  scan<T extends TableName>(
    table: T,
    {
      where = {},
      order = describe(table).key as readonly (keyof Row<T> & string)[],
      after,
      limit,
    }: ScanOptions<T>,
  ): Row<T>[] {
    const start = after && Object.fromEntries(order.map((column, i) => [column, after[i] ?? 0]));
    const rows = [...this.#rows(table).values()]
      .filter((row) => hasValues(row, where))
      .filter((row) => start === undefined || compareBy(order, row, start) > 0)
      .sort((a, b) => compareBy(order, a, b));
    return structuredClone(rows.slice(0, limit)) as unknown as Row<T>[];
  }

  insert<T extends TableName>(table: T, row: Row<T>): void {
    const rows = this.#rows(table);
    const name = nameOf(table, row as unknown as Key<T>);
    if (rows.has(name)) throw new Error(`a row with that key exists in ${table}`);
    rows.set(name, structuredClone(row) as AnyRow);
    this.#undo.push(() => rows.delete(name));
  }

  update<T extends TableName>(table: T, row: Row<T>, _before: Row<T>): void {
    this.#replace(table, nameOf(table, row as unknown as Key<T>), structuredClone(row) as AnyRow);
  }

  remove<T extends TableName>(table: T, key: Key<T>): void {
    const name = nameOf(table, key);
    if (this.#rows(table).has(name)) this.#replace(table, name, undefined);
  }

  /** The state of this moment; rows are never changed in place, so the maps are all that is copied. */
  copy(): MemoryRows {
    const copy = new MemoryRows();
    for (const [table, rows] of this.#tables) copy.#tables.set(table, new Map(rows));
    return copy;
  }

  begin(): void {
    this.#undo = [];
  }

  undo(): void {
    for (const step of this.#undo.splice(0).reverse()) step();
  }

  #replace(table: TableName, name: string, row: AnyRow | undefined): void {
    const rows = this.#rows(table);
    const before = rows.get(name);
    if (before === undefined) throw new Error(`no row to update in ${table}`);
    if (row === undefined) rows.delete(name);
    else rows.set(name, row);
    this.#undo.push(() => rows.set(name, before));
  }

  #rows(table: TableName): Map<string, AnyRow> {
    const rows = this.#tables.get(table) ?? new Map<string, AnyRow>();
    this.#tables.set(table, rows);
    return rows;
  }
}
