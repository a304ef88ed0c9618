import type { LoadedRows } from '../engine/loaded.ts';
import type { Load } from '../engine/rule.ts';
import { compareBy } from '../schema/rows.ts';
import { columnsOf, describe, type Row, type TableName } from '../schema/schema.ts';
import { quote } from '../schema/sql.ts';
import { questions } from './asking.ts';
import type { Session } from './session.ts';
import { arrayTypes, encodeArray, kindOfColumn, rowOf, type Value, valuesOf } from './values.ts';

// What the rules of a group load, in as few statements as there are shapes of loads, a level at a time: first what they name, then what hangs
// on the rows that were found.

type AnyRow = Row<TableName>;

/** What one rule loads, and where to. `found` may refuse. */
export interface Loading {
  readonly loads: readonly Load[];
  readonly into: LoadedRows;
  readonly found?: (load: Load, rows: readonly AnyRow[]) => void;
}

interface Asked {
  readonly load: Load;
  readonly by: Loading;
}

/** Loads all of it. Every statement sees what is committed at its own moment. */
export async function loadAll(session: Session, loadings: readonly Loading[]): Promise<void> {
  let level: Asked[] = loadings.flatMap((by) => by.loads.map((load) => ({ load, by })));
  while (level.length > 0) {
    const found = await fetchLevel(session, level);
    const next: Asked[] = [];
    for (const [i, { load, by }] of level.entries()) {
      const rows = found[i] ?? [];
      by.found?.(load, rows);
      by.into.note(load, rows);
      if (load.each) for (const row of rows) for (const more of load.each(row)) next.push({ load: more, by });
    }
    level = next;
  }
}

/** Loads of one shape: rows by equality on the same columns of the same table. */
interface Batch {
  readonly table: TableName;
  readonly columns: readonly string[];
  /** Places in the level, by the name of the values. */
  readonly places: Map<string, number[]>;
  readonly values: Value[][];
}

async function fetchLevel(session: Session, level: readonly Asked[]): Promise<(readonly AnyRow[])[]> {
  const found: (readonly AnyRow[])[] = [];
  const batches = new Map<string, Batch>();
  const asked: Promise<void>[] = [];
  for (const [place, { load }] of level.entries()) {
    const { table, key, where, options = {} } = load;
    const columns = key === undefined ? Object.keys(where ?? {}) : describe(table).key;
    // What has an order, a begin or an end of its own is asked by itself.
    if (columns.length === 0 || Object.keys(options).length > 0) {
      const { text, values } = questions.find(table, where ?? {}, options);
      const answer = session.query(text, values);
      asked.push(
        answer.then(({ rows }) => {
          found[place] = rows.map((row) => rowOf(table, row));
        }),
      );
      continue;
    }
    const shape = `${table}:${columns.join()}`;
    const batch: Batch = batches.get(shape) ?? { table, columns, places: new Map(), values: [] };
    batches.set(shape, batch);
    const values = valuesOf(columns, (key ?? where) as object);
    const name = nameOfValues(values);
    const places = batch.places.get(name);
    if (places) places.push(place);
    else {
      batch.places.set(name, [place]);
      batch.values.push(values);
    }
  }
  for (const batch of batches.values()) asked.push(fetchBatch(session, batch, found));
  await Promise.all(asked);
  return found;
}

async function fetchBatch(session: Session, batch: Batch, found: (readonly AnyRow[])[]): Promise<void> {
  const { table, columns, places, values } = batch;
  const arrays = columns.map((column, i) =>
    encodeArray(
      kindOfColumn(table, column),
      values.map((each) => each[i] ?? null),
    ),
  );
  const { rows } = await session.query(batchSql(table, columns), arrays);
  for (const all of places.values()) for (const place of all) found[place] = [];
  const byName = new Map<string, AnyRow[]>();
  for (const each of rows) {
    const row = rowOf(table, each);
    const name = nameOfValues(valuesOf(columns, row));
    const same = byName.get(name);
    if (same) same.push(row);
    else byName.set(name, [row]);
  }
  const { key } = describe(table);
  for (const [name, same] of byName) {
    same.sort((a, b) => compareBy(key, a, b));
    for (const place of places.get(name) ?? []) found[place] = same;
  }
}

const texts = new Map<string, string>();

/** Rows whose columns equal any of some tuples, which are given as an array for each column. */
function batchSql(table: TableName, columns: readonly string[]): string {
  const shape = `${table}:${columns.join()}`;
  const known = texts.get(shape);
  if (known !== undefined) return known;
  const selected = columnsOf(table)
    .map((column) => `t.${quote(column)}`)
    .join(', ');
  const arrays = columns.map((column, i) => `$${i + 1}::${arrayTypes[kindOfColumn(table, column)]}`);
  const [first = ''] = columns;
  const text =
    columns.length === 1
      ? `SELECT ${selected} FROM ${quote(table)} t WHERE t.${quote(first)} = ANY(${arrays[0]})`
      : `SELECT ${selected} FROM unnest(${arrays.join(', ')}) AS u(${columns.map(quote).join(', ')}) JOIN ${quote(table)} t ON ${columns
          .map((column) => `t.${quote(column)} = u.${quote(column)}`)
          .join(' AND ')}`;
  texts.set(shape, text);
  return text;
}

const nameOfValues = (values: readonly Value[]): string =>
  JSON.stringify(
    values.map((value) =>
      value instanceof Uint8Array ? `x${Buffer.from(value).toString('latin1')}` : value,
    ),
  );
