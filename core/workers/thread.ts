import { type MessagePort, type ResourceLimits, Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type ErrorCode, PkiError } from '../runtime/errors.ts';

// Threads that are told things and answer each, and that are begun anew where they die.

/** What every thread understands. */
export interface Closing {
  readonly type: 'close';
}

interface Reply<Answer> {
  readonly id: number;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
  readonly answer: Answer | undefined;
}

/** A thread, seen from the one that began it. */
export class Thread<Told, Answer> {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer | undefined>>();
  #ids = 0;
  #hasEnded = false;
  /** Settles when the thread has ended: rejects with what ended it, where nobody asked it to. */
  readonly ended: Promise<void>;

  constructor(options: {
    readonly script: URL;
    readonly start: object;
    readonly resourceLimits?: ResourceLimits;
    /** Hears what the thread says of itself. */
    readonly heard?: (message: unknown) => void;
  }) {
    const { script, start, resourceLimits = {}, heard } = options;
    this.#worker = new Worker(script, { workerData: start, resourceLimits });
    this.#worker.on('message', (message: Reply<Answer> | { readonly id?: undefined }) => {
      if (message.id === undefined) heard?.(message);
      else this.#settle(message);
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => resolve());
    });
    // Nobody waits for a thread that is gone.
    const release = (): void => {
      this.#hasEnded = true;
      for (const id of this.#waiting.keys()) this.#settle({ id, failure: null, answer: undefined });
    };
    this.ended.then(release, release);
  }

  /** Resolves with the answer once it is so; with undefined where the thread is gone. */
  tell(told: Told | Closing): Promise<Answer | undefined> {
    if (this.#hasEnded) return Promise.resolve(undefined);
    this.#ids += 1;
    const waiting = Promise.withResolvers<Answer | undefined>();
    this.#waiting.set(this.#ids, waiting);
    this.#worker.postMessage({ ...told, id: this.#ids });
    return waiting.promise;
  }

  async close(): Promise<void> {
    await this.tell({ type: 'close' });
    await this.ended;
  }

  #settle({ id, failure, answer }: Reply<Answer>): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (failure === null) waiting?.resolve(answer);
    else waiting?.reject(new PkiError(failure.code, failure.detail));
  }
}

/** The thread's side: does what it is told, and answers; the last it does is to close. */
export function obeyAll<Told, Answer>(
  port: MessagePort | null,
  obey: (told: Told | Closing) => Promise<Answer>,
): void {
  port?.on('message', (message: (Told | Closing) & { readonly id: number }) => {
    const { id } = message;
    const say = (reply: Reply<Answer>): void => port.postMessage(reply);
    obey(message).then(
      (answer) => {
        say({ id, failure: null, answer });
        if ((message as Closing).type === 'close') port.close();
      },
      (error: Error) => {
        const code = error instanceof PkiError ? error.code : 'internal';
        say({ id, failure: { code, detail: error.message }, answer: undefined });
      },
    );
  });
}

/** Before a thread that died is begun again. */
const restartMs = 200;
/** So many deaths within so long are an alarm: one is an accident, more have a cause that stays. */
const alarm = { deaths: 3, withinMs: 600_000 } as const;

interface Member<T> {
  readonly thread: T;
  /** Undoes what was arranged for it elsewhere. */
  readonly forget: () => void;
}

/** So many threads of one kind. One that dies takes nobody with it: another begins in its place. */
export class ThreadGroup<T extends { readonly ended: Promise<void>; close(): Promise<void> }> {
  readonly #begin: (number: number) => Member<T>;
  readonly #settle: (member: Member<T>) => Promise<void>;
  readonly #logger: Logger;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #members = new Map<number, Member<T>>();
  /** Monotonic milliseconds of the last few. */
  #deaths: number[] = [];
  #isClosing = false;

  constructor(options: {
    readonly begin: (number: number) => Member<T>;
    /** Tells one that has begun whatever it needs; it is told what all are told meanwhile. */
    readonly settle: (member: Member<T>) => Promise<void>;
    readonly logger: Logger;
    readonly clock?: Pick<Clock, 'monotonicMs'>;
  }) {
    this.#clock = options.clock ?? systemClock;
    this.#begin = options.begin;
    this.#settle = options.settle;
    this.#logger = options.logger;
  }

  /** Resolves when all are settled; rejects, and ends all, where one cannot be. */
  async start(count: number): Promise<void> {
    try {
      await Promise.all(Array.from({ length: count }, (_, number) => this.#beginOne(number)));
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  get threads(): T[] {
    return [...this.#members.values()].map(({ thread }) => thread);
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    const all = [...this.#members.values()];
    this.#members.clear();
    await Promise.all(
      all.map(async ({ thread, forget }) => {
        await thread.close();
        forget();
      }),
    );
  }

  async #beginOne(number: number): Promise<void> {
    const member = this.#begin(number);
    // Before anything is waited for, so that whatever is told to all reaches this one too.
    this.#members.set(number, member);
    void this.#watch(number, member);
    await this.#settle(member);
  }

  async #watch(number: number, { thread, forget }: Member<T>): Promise<void> {
    let reason = 'it ended';
    try {
      await thread.ended;
    } catch (error) {
      reason = (error as Error).message;
    }
    if (this.#isClosing) return;
    forget();
    this.#members.delete(number);
    this.#logger.error({ reason }, 'a listening thread died');
    this.#countDeath();
    await new Promise((done) => setTimeout(done, restartMs));
    if (this.#isClosing) return;
    await this.#beginOne(number).catch((error: Error) => {
      // A thread that cannot listen is of no use: it is ended, and what watches it begins anew.
      this.#logger.error({ reason: error.message }, 'a listening thread cannot begin');
      void this.#members.get(number)?.thread.close();
    });
  }

  #countDeath(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#deaths = [...this.#deaths, nowMs].filter((ms) => nowMs - ms < alarm.withinMs).slice(-alarm.deaths);
    if (this.#deaths.length < alarm.deaths) return;
    this.#logger.error(
      { deaths: alarm.deaths, withinMs: alarm.withinMs },
      'ALARM: listening threads die often',
    );
  }
}
