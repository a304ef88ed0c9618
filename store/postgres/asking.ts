import {
  type DueTable,
  dueColumn,
  type FindOptions,
  type RecordReader,
  type ScanOptions,
} from '../engine/record.ts';
import { describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import { byKeySql, dueSql, findSql, scanSql } from '../schema/sql.ts';
import { rowOf, type Value, valuesOf } from './values.ts';

// What a reader is asked, as questions to the server.

export interface Question {
  readonly text: string;
  readonly values: readonly Value[];
}

const numbered = (sql: string): string => {
  let count = 0;
  return sql.replaceAll('?', () => `$${++count}`);
};

const texts = new Map<string, string>();
/** The text of a statement, with its places numbered; put together once for each shape. */
function textOf(shape: string, sql: () => string): string {
  const known = texts.get(shape);
  if (known !== undefined) return known;
  const text = numbered(sql());
  texts.set(shape, text);
  return text;
}

/** What to ask the server for each way to read. */
export const questions = {
  get: (table: TableName, key: object): Question => ({
    text: textOf(`get:${table}`, () => byKeySql(table)),
    values: valuesOf(describe(table).key, key),
  }),
  part: (table: TableName, key: object, columns: readonly string[]): Question => ({
    text: textOf(`part:${table}:${columns.join()}`, () => byKeySql(table, columns)),
    values: valuesOf(describe(table).key, key),
  }),
  find: (table: TableName, where: object, { after, limit, descending = false }: FindOptions): Question => {
    const asked = Object.keys(where);
    const has = { after: after !== undefined, limit: limit !== undefined, descending };
    const shape = `find:${table}:${asked.join()}:${has.after}:${has.limit}:${descending}`;
    return {
      text: textOf(shape, () => findSql(table, asked, has)),
      values: [
        ...valuesOf(asked, where),
        ...(after === undefined ? [] : [after]),
        ...(limit === undefined ? [] : [limit]),
      ],
    };
  },
};

/** Rows of a server's answer, each its values in order of the columns. */
export type AnsweredRows = readonly (readonly unknown[])[];

/** A reader that has each question answered. */
export class AskingRows implements RecordReader {
  readonly #answer: (question: Question) => AnsweredRows;

  constructor(answer: (question: Question) => AnsweredRows) {
    this.#answer = answer;
  }

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const [row] = this.#answer(questions.get(table, key));
    return row && rowOf(table, row);
  }

  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
    columns: readonly C[],
  ): Pick<Row<T>, C> | undefined {
    const [row] = this.#answer(questions.part(table, key, columns));
    return row && (rowOf(table, row, columns) as Pick<Row<T>, C>);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    return this.#answer(questions.find(table, where, options)).map((row) => rowOf(table, row));
  }

  findDue<T extends DueTable>(
    table: T,
    beforeMs: number,
    limit: number,
    where: Partial<Row<T>> = {},
  ): Row<T>[] {
    const asked = Object.keys(where);
    const text = textOf(`due:${table}:${asked.join()}`, () => dueSql(table, dueColumn[table], asked));
    const values = [...valuesOf(asked, where), beforeMs, limit];
    return this.#answer({ text, values }).map((row) => rowOf(table, row));
  }

  scan<T extends TableName>(table: T, { where = {}, order, after, limit }: ScanOptions<T>): Row<T>[] {
    const asked = Object.keys(where);
    const by: readonly string[] = order ?? describe(table).key;
    const has = { asked, order: by, after: after !== undefined };
    const shape = `scan:${table}:${asked.join()}:${by.join()}:${has.after}`;
    const text = textOf(shape, () => scanSql(table, has));
    const values = [...valuesOf(asked, where), ...((after ?? []) as Value[]), limit];
    return this.#answer({ text, values }).map((row) => rowOf(table, row));
  }
}
