import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader } from '../engine/record.ts';
import { AskingRows, type Question } from './asking.ts';
import type { Answer, Session } from './session.ts';

// Bodies of reads ask for one thing after the other and wait for none: so they are functions of what they read. Here what they ask for is
// fetched when they first ask, and the body is run again on all that was fetched, until it asks for nothing more. All of it belongs to one
// state of the record.

/** Thrown out of a body that asks for what was not fetched yet: one for all, for where it was thrown says nothing. */
const notFetched = new Error('not fetched yet');

type Missing = Question & { readonly name: string };

/** What was fetched, and the first thing that was asked for and was not. */
class FetchedRows {
  readonly #fetched = new Map<string, readonly (readonly unknown[])[]>();
  #missing: Missing | undefined;

  readonly reader: RecordReader = new AskingRows((question) => this.#rows(question));

  /** What the body asked for and was not there, whether the body said so or not; undefined where it had all. */
  takeMissing(): Missing | undefined {
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
    throw notFetched;
  }
}

/** How a body's questions are asked. */
export interface Asking {
  /** By itself: one statement is a state of its own. */
  alone(question: Question): Promise<Answer>;
  /** Within one transaction. */
  within<R>(act: (session: Session) => Promise<R>): Promise<R>;
}

/** Asks over one connection, which nothing else uses meanwhile. */
export const askingOver = (session: Session): Asking => ({
  alone: ({ text, values }) => session.query(text, values),
  within: (act) => act(session),
});

/**
 * Runs a body on one state of what is committed. It may be run several times, and changes nothing. What needs one question is answered by one
 * statement; what asks for more is answered within a transaction, from the first question on.
 */
export async function readWith<R>(
  asking: Asking,
  body: (reader: RecordReader) => R | Promise<R>,
): Promise<R> {
  const rows = new FetchedRows();
  const first = await attempt(rows, body);
  if ('value' in first) return first.value;
  rows.fetched(first.missing.name, (await asking.alone(first.missing)).rows);
  const second = await attempt(rows, body);
  if ('value' in second) return second.value;
  return asking.within(async (session) => {
    const begun = [
      session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'),
      session.query(first.missing.text, first.missing.values).then((again) => {
        rows.fetched(first.missing.name, again.rows);
      }),
    ];
    try {
      for (let { missing } = second; ; ) {
        const [answer] = await Promise.all([session.query(missing.text, missing.values), ...begun.splice(0)]);
        rows.fetched(missing.name, answer.rows);
        const next = await attempt(rows, body);
        if ('value' in next) return next.value;
        ({ missing } = next);
      }
    } finally {
      // Answered before what the next reader asks; where it fails, the connection is gone, which the next one learns.
      session.query('ROLLBACK').catch(() => undefined);
    }
  });
}

/** What a body comes to on what was fetched, or what it asks for beyond. Rejects with what it throws where it had all that it asked for. */
async function attempt<R>(
  rows: FetchedRows,
  body: (reader: RecordReader) => R | Promise<R>,
): Promise<{ readonly value: R } | { readonly missing: Missing }> {
  const outcome = await runOn(rows.reader, body);
  const missing = rows.takeMissing();
  if (missing) return { missing };
  if ('error' in outcome) throw outcome.error;
  return outcome;
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
const tooMany = 'too many reads are waiting for the record';

/** Connections for readers, opened when they are wanted, and opened again when they are lost: a few for transactions, and one for all that is asked alone. */
export class ReadingSessions implements Asking {
  readonly #open: () => Promise<Session>;
  readonly #max: number;
  readonly #free: Session[] = [];
  readonly #waiting: PromiseWithResolvers<void>[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #shared: Promise<Session> | undefined;
  #sharedNow: Session | undefined;
  #aloneCount = 0;
  #used = 0;
  #isClosed = false;

  constructor(options: { readonly open: () => Promise<Session>; readonly max: number }) {
    this.#open = options.open;
    this.#max = options.max;
  }

  async alone({ text, values }: Question): Promise<Answer> {
    this.#refuseClosed();
    if (this.#aloneCount >= waitingMax) throw new PkiError('overloaded', tooMany);
    this.#aloneCount += 1;
    return this.#noted(
      (async () => {
        try {
          return await (await this.#sharedSession()).query(text, values);
        } finally {
          this.#aloneCount -= 1;
        }
      })(),
    );
  }

  async within<R>(act: (session: Session) => Promise<R>): Promise<R> {
    this.#refuseClosed();
    return this.#noted(this.#use(act));
  }

  /** Refuses what comes after `close`, which waits for what came before. */
  #noted<R>(work: Promise<R>): Promise<R> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#underWay.add(settled);
    void settled.then(() => this.#underWay.delete(settled));
    return work;
  }

  /** The connection that is shared; another one where it was lost, or could not be opened. */
  #sharedSession(): Promise<Session> {
    if (this.#shared && !this.#sharedNow?.isLost) return this.#shared;
    const opening = this.#open();
    this.#shared = opening;
    this.#sharedNow = undefined;
    opening.then(
      (session) => {
        this.#sharedNow = session;
      },
      () => {
        this.#shared = undefined;
      },
    );
    return opening;
  }

  #refuseClosed(): void {
    if (this.#isClosed) throw new PkiError('record-unavailable', 'the record is closed');
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
    await this.#sharedNow?.close();
    await Promise.all(this.#free.splice(0).map((session) => session.close()));
  }

  #take(): Session | undefined {
    for (;;) {
      const session = this.#free.pop();
      if (!session?.isLost) return session;
    }
  }

  #wait(): Promise<void> {
    if (this.#waiting.length >= waitingMax) return Promise.reject(new PkiError('overloaded', tooMany));
    const turn = Promise.withResolvers<void>();
    this.#waiting.push(turn);
    return turn.promise;
  }
}
