import { invariant } from '../../core/runtime/errors.ts';
import { compareBy, hasValues, nameOf } from '../schema/rows.ts';
import { describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import type { FindOptions, RecordReader } from './record.ts';
import type { Load } from './rule.ts';

type AnyRow = Row<TableName>;

interface LoadedRange {
  readonly where: object;
  readonly options: FindOptions;
  readonly rows: readonly AnyRow[];
}

/** A rule reads rows that it did not load: its declaration is wrong, or others that decide with it removed rows that it has loaded some of. */
export class NotLoaded extends Error {}

/** What a rule asked to be loaded, and nothing else: a rule that reads anything else is refused, because its declaration is wrong. */
export class LoadedRows implements RecordReader {
  readonly #byKey = new Map<TableName, Map<string, AnyRow | undefined>>();
  readonly #ranges = new Map<TableName, LoadedRange[]>();

  /** Notes what was found for a load. */
  note(load: Load, rows: readonly AnyRow[]): void {
    const { table, key, where, options = {} } = load;
    const rowsByKey = this.#byKey.get(table) ?? new Map<string, AnyRow | undefined>();
    this.#byKey.set(table, rowsByKey);
    for (const row of rows) rowsByKey.set(nameOf(table, row), row);
    if (key !== undefined && rows.length === 0) rowsByKey.set(nameOf(table, key), undefined);
    if (where === undefined) return;
    const ranges = this.#ranges.get(table) ?? [];
    this.#ranges.set(table, ranges);
    ranges.push({ where, options, rows });
  }

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const name = nameOf(table, key);
    const rowsByKey = this.#byKey.get(table);
    if (rowsByKey?.has(name)) return rowsByKey.get(name) as Row<T> | undefined;
    const isCovered = this.#ranges.get(table)?.some(({ where, options }) => {
      const isWhole = options.limit === undefined && options.after === undefined;
      return isWhole && hasValues(key, where);
    });
    if (!isCovered) throw new NotLoaded(`a rule reads ${table} by a key that it did not load`);
    return undefined;
  }

  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
  ): Pick<Row<T>, C> | undefined {
    return this.get(table, key);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    const ranges = this.#ranges.get(table) ?? [];
    const exact = ranges.find((range) => isSame(range.where, where) && isSame(range.options, options));
    if (exact) return [...exact.rows] as Row<T>[];
    const wider = ranges.find(
      (range) => Object.keys(range.options).length === 0 && hasValues(where, range.where),
    );
    if (!wider || Object.keys(options).length > 0)
      throw new NotLoaded(`a rule reads ${table} by ${Object.keys(where).join()}, which it did not load`);
    return wider.rows
      .filter((row) => hasValues(row, where))
      .sort((a, b) => compareBy(describe(table).key, a, b)) as Row<T>[];
  }

  findDue(): never {
    invariant(false, 'a rule reads what is due, which no rule may');
  }

  scan(): never {
    invariant(false, 'a rule scans a table, which no rule may');
  }
}

const isSame = (a: object, b: object): boolean => hasValues(a, b) && hasValues(b, a);

/** What one load finds in a record. */
export function rowsOf(reader: RecordReader, { table, key, where, options }: Load): AnyRow[] {
  if (key !== undefined) {
    const row = reader.get(table, key);
    return row ? [row] : [];
  }
  return reader.find(table, where ?? {}, options);
}

/** All loads with those that hang on their rows, in the order in which they can be made. Receives what each has found. */
export function* inOrder(loads: readonly Load[]): Generator<Load, void, readonly AnyRow[]> {
  for (const load of loads) {
    const rows = yield load;
    for (const row of rows) yield* inOrder(load.each?.(row) ?? []);
  }
}

/** Loads from one state of a record. */
export function loadNow(reader: RecordReader, loads: readonly Load[]): LoadedRows {
  const loaded = new LoadedRows();
  const order = inOrder(loads);
  for (let next = order.next([]); !next.done; ) {
    const rows = rowsOf(reader, next.value);
    loaded.note(next.value, rows);
    next = order.next(rows);
  }
  return loaded;
}
