import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import {
  type DueTable,
  dueColumn,
  type FindOptions,
  type RecordReader,
  type ScanOptions,
} from '../engine/record.ts';
import { describe, type Key, type Row, type TableName } from '../schema/schema.ts';
import { byKeySql, dueSql, findSql, scanSql } from '../schema/sql.ts';
import type { Session } from './session.ts';
import { rowOf, type Value, valuesOf } from './values.ts';

// Bodies of reads ask for one thing after the other and wait for none: so they are functions of what they read. Here what they ask for is
// fetched when they first ask, and the body is run again on all that was fetched, until it asks for nothing more. All of it belongs to one
// state of the record.

interface Question {
  readonly text: string;
  readonly values: readonly Value[];
}

/** Thrown out of a body that asks for what was not fetched yet. */
class NotFetched extends Error {}

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

/** A reader that has what was fetched, and notes the first thing that was not. */
class FetchedRows implements RecordReader {
  readonly #fetched = new Map<string, readonly (readonly unknown[])[]>();
  #missing: (Question & { readonly name: string }) | undefined;

  get<T extends TableName>(table: T, key: Key<T>): Row<T> | undefined {
    const [row] = this.#rows(questions.get(table, key));
    return row && rowOf(table, row);
  }

  part<T extends TableName, C extends keyof Row<T> & string>(
    table: T,
    key: Key<T>,
    columns: readonly C[],
  ): Pick<Row<T>, C> | undefined {
    const [row] = this.#rows(questions.part(table, key, columns));
    return row && (rowOf(table, row, columns) as Pick<Row<T>, C>);
  }

  find<T extends TableName>(table: T, where: Partial<Row<T>>, options: FindOptions = {}): Row<T>[] {
    return this.#rows(questions.find(table, where, options)).map((row) => rowOf(table, row));
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
    return this.#rows({ text, values }).map((row) => rowOf(table, row));
  }

  scan<T extends TableName>(table: T, { where = {}, order, after, limit }: ScanOptions<T>): Row<T>[] {
    const asked = Object.keys(where);
    const by: readonly string[] = order ?? describe(table).key;
    const has = { asked, order: by, after: after !== undefined };
    const shape = `scan:${table}:${asked.join()}:${by.join()}:${has.after}`;
    const text = textOf(shape, () => scanSql(table, has));
    const values = [...valuesOf(asked, where), ...((after ?? []) as Value[]), limit];
    return this.#rows({ text, values }).map((row) => rowOf(table, row));
  }

  /** What the body asked for and was not there, whether the body said so or not; undefined where it had all. */
  takeMissing(): (Question & { readonly name: string }) | undefined {
    const missing = this.#missing;
    this.#missing = undefined;
    return missing;
  }

  fetched(name: string, rows: readonly (readonly unknown[])[]): void {
    this.#fetched.set(name, rows);
  }

  #rows(question: Question): readonly (readonly unknown[])[] {
    const values = question.values.map((value) => (value instanceof Uint8Array ? `x${hex(value)}` : value));
    const name = `${question.text}\0${JSON.stringify(values)}`;
    const rows = this.#fetched.get(name);
    if (rows) return rows;
    this.#missing ??= { ...question, name };
    throw new NotFetched('not fetched yet');
  }
}

/** Runs a body on one state of what is committed. It may be run several times, and changes nothing. */
export async function readWith<R>(
  session: Session,
  body: (reader: RecordReader) => R | Promise<R>,
): Promise<R> {
  const rows = new FetchedRows();
  let isBegun = false;
  try {
    for (;;) {
      const outcome = await runOn(rows, body);
      const missing = rows.takeMissing();
      if (!missing) {
        if ('error' in outcome) throw outcome.error;
        return outcome.value;
      }
      const beginning = isBegun
        ? undefined
        : session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      isBegun = true;
      const [answer] = await Promise.all([session.query(missing.text, missing.values), beginning]);
      rows.fetched(missing.name, answer.rows);
    }
  } finally {
    // Answered before what the next reader asks; where it fails, the connection is gone, which the next one learns.
    if (isBegun) session.query('ROLLBACK').catch(() => undefined);
  }
}

async function runOn<R>(
  rows: RecordReader,
  body: (reader: RecordReader) => R | Promise<R>,
): Promise<{ readonly value: R } | { readonly error: unknown }> {
  try {
    return { value: await body(rows) };
  } catch (error) {
    return { error };
  }
}

/** Readers that wait for a connection, at most. */
const waitingMax = 10_000;

/** A few connections for readers, opened when they are wanted, and opened again when they are lost. */
export class ReadingSessions {
  readonly #open: () => Promise<Session>;
  readonly #max: number;
  readonly #free: Session[] = [];
  readonly #waiting: PromiseWithResolvers<void>[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #used = 0;
  #isClosed = false;

  constructor(options: { readonly open: () => Promise<Session>; readonly max: number }) {
    this.#open = options.open;
    this.#max = options.max;
  }

  async use<R>(act: (session: Session) => Promise<R>): Promise<R> {
    if (this.#isClosed) throw new PkiError('record-unavailable', 'the record is closed');
    const used = this.#use(act);
    const settled = used.then(
      () => undefined,
      () => undefined,
    );
    this.#underWay.add(settled);
    void settled.then(() => this.#underWay.delete(settled));
    return used;
  }

  async #use<R>(act: (session: Session) => Promise<R>): Promise<R> {
    if (this.#used >= this.#max) await this.#wait();
    else this.#used += 1;
    let session: Session | undefined;
    try {
      session = this.#take() ?? (await this.#open());
      return await act(session);
    } finally {
      if (session && !session.isLost) this.#free.push(session);
      const next = this.#waiting.shift();
      // Who waits gets the place of the one that leaves.
      if (next) next.resolve();
      else this.#used -= 1;
    }
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#underWay);
    await Promise.all(this.#free.splice(0).map((session) => session.close()));
  }

  #take(): Session | undefined {
    for (;;) {
      const session = this.#free.pop();
      if (!session?.isLost) return session;
    }
  }

  #wait(): Promise<void> {
    if (this.#waiting.length >= waitingMax)
      return Promise.reject(new PkiError('overloaded', 'too many reads are waiting for the record'));
    const turn = Promise.withResolvers<void>();
    this.#waiting.push(turn);
    return turn.promise;
  }
}
