import { invariant } from '../../core/runtime/errors.ts';
import { keyValues } from '../schema/digest.ts';
import { describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import type { FindOptions, RecordReader } from './record.ts';
import type { Load } from './rule.ts';
import { compareBy, isSameValue } from './workspace.ts';

type AnyRow = Row<TableName>;
type Columns = Readonly<Record<string, string | number | Uint8Array | null>>;

interface LoadedRange {
  readonly where: Columns;
  readonly options: FindOptions;
  readonly rows: readonly AnyRow[];
}

/** What a rule asked to be loaded, and nothing else: whatever it reads beside is refused, as its declaration is wrong. */
export class LoadedRows implements RecordReader {
  readonly #byKey = new Map<string, AnyRow | undefined>();
  readonly #ranges = new Map<TableName, LoadedRange[]>();

  /** Notes what was found for a load. */
  note(load: Load, rows: readonly AnyRow[]): void {
    const { table, key, where, options = {} } = load;
    for (const row of rows) this.#byKey.set(nameOf(table, row), row);
    if (key !== undefined && rows.length === 0) this.#byKey.set(nameOf(table, key), undefined);
    if (where === undefined) return;
    const ranges = this.#ranges.get(table) ?? [];
    this.#ranges.set(table, ranges);
    ranges.push({ where: where as Columns, options, rows });
  }

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const name = nameOf(table, key);
    if (this.#byKey.has(name)) return this.#byKey.get(name) as Row<T> | undefined;
    const isCovered = this.#ranges.get(table)?.some(({ where, options }) => {
      const isWhole = options.limit === undefined && options.after === undefined;
      return isWhole && Object.entries(where).every(([column, value]) => hasValue(key, column, value));
    });
    invariant(isCovered, `a rule reads ${table} by a key that it did not load`);
    return undefined;
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    const ranges = this.#ranges.get(table) ?? [];
    const exact = ranges.find(
      (range) =>
        isSame(range.where, where as Columns) && isSame(range.options as Columns, options as Columns),
    );
    if (exact) return [...exact.rows] as Row<T>[];
    const wider = ranges.find(
      (range) =>
        Object.keys(range.options).length === 0 &&
        Object.entries(range.where).every(([column, value]) => hasValue(where, column, value)),
    );
    invariant(
      wider && Object.keys(options).length === 0,
      `a rule reads ${table} by ${Object.keys(where).join()}, which it did not load`,
    );
    return wider.rows
      .filter((row) =>
        Object.entries(where as Columns).every(([column, value]) => hasValue(row, column, value)),
      )
      .sort((a, b) => compareBy(describe(table).key, a, b)) as Row<T>[];
  }

  findDue(): never {
    invariant(false, 'a rule reads what is due, which no rule may');
  }

  scan(): never {
    invariant(false, 'a rule scans a table, which no rule may');
  }
}

const nameOf = (table: TableName, key: object): string =>
  `${table} ${JSON.stringify(keyValues(table, key as Key<TableName>))}`;

const hasValue = (row: object, column: string, value: Columns[string] | undefined): boolean =>
  isSameValue((row as Columns)[column], value);

const isSame = (a: Columns, b: Columns): boolean =>
  Object.keys({ ...a, ...b }).every((column) => isSameValue(a[column], b[column]));

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
