import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader } from '../engine/record.ts';
import { AskingRows, type Question } from './asking.ts';
import type { Session } from './session.ts';

// Bodies of reads ask for one thing after the other and wait for none: so they are functions of what they read. Here what they ask for is
// fetched when they first ask, and the body is run again on all that was fetched, until it asks for nothing more. All of it belongs to one
// state of the record.

/** Thrown out of a body that asks for what was not fetched yet. */
class NotFetched extends Error {}

/** What was fetched, and the first thing that was asked for and was not. */
class FetchedRows {
  readonly #fetched = new Map<string, readonly (readonly unknown[])[]>();
  #missing: (Question & { readonly name: string }) | undefined;

  readonly reader: RecordReader = new AskingRows((question) => this.#rows(question));

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
      const outcome = await runOn(rows.reader, body);
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
