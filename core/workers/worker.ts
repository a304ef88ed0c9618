import { setPriority } from 'node:os';
import { type MessagePort, type ResourceLimits, Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type ErrorCode, PkiError } from '../runtime/errors.ts';

// Request and response with worker threads. A worker that exits is restarted.

/** The request that every worker understands: it answers, and exits. */
export interface Closing {
  readonly type: 'close';
}

interface Reply<Response> {
  readonly id: number;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
  readonly response: Response | undefined;
}

/** A worker, as the thread that started it sees it. */
export class WorkerClient<Request, Response> {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<Response | undefined>>();
  #ids = 0;
  #hasEnded = false;
  /** Settles when the worker has ended: rejects with the error that ended it, if it was not closed. */
  readonly ended: Promise<void>;

  constructor(options: {
    readonly script: URL;
    readonly start: object;
    readonly resourceLimits?: ResourceLimits;
    /** Gets messages that answer no request. */
    readonly onMessage?: (message: unknown) => void;
  }) {
    const { script, start, resourceLimits = {}, onMessage } = options;
    this.#worker = new Worker(script, { workerData: start, resourceLimits });
    this.#worker.on('message', (message: Reply<Response> | { readonly id?: undefined }) => {
      if (message.id === undefined) onMessage?.(message);
      else this.#settle(message);
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => resolve());
    });
    // Requests to a worker that has ended resolve with undefined.
    const release = (): void => {
      this.#hasEnded = true;
      for (const id of this.#waiting.keys()) this.#settle({ id, failure: null, response: undefined });
    };
    this.ended.then(release, release);
  }

  /** Resolves with the response; with undefined if the worker has ended. Rejects with the worker's error. */
  request(request: Request | Closing): Promise<Response | undefined> {
    if (this.#hasEnded) return Promise.resolve(undefined);
    this.#ids += 1;
    const waiting = Promise.withResolvers<Response | undefined>();
    this.#waiting.set(this.#ids, waiting);
    this.#worker.postMessage({ ...request, id: this.#ids });
    return waiting.promise;
  }

  async close(): Promise<void> {
    await this.request({ type: 'close' });
    await this.ended;
  }

  #settle({ id, failure, response }: Reply<Response>): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (failure === null) waiting?.resolve(response);
    else waiting?.reject(new PkiError(failure.code, failure.detail));
  }
}

/**
 * Has the calling thread give way to others of this process where cores are short (nice(2), which Linux has for threads): what answers many
 * does to what acts for one. 0 to 19.
 */
export function giveWay(niceness: number): void {
  if (niceness > 0 && process.platform === 'linux') setPriority(0, niceness);
}

/** The worker's side: handles requests and answers them; closes its port after `close`. */
export function serveRequests<Request, Response>(
  port: MessagePort | null,
  handle: (request: Request | Closing) => Promise<Response>,
): void {
  port?.on('message', (message: (Request | Closing) & { readonly id: number }) => {
    const { id } = message;
    const reply = (to: Reply<Response>): void => port.postMessage(to);
    handle(message).then(
      (response) => {
        reply({ id, failure: null, response });
        if ((message as Closing).type === 'close') port.close();
      },
      (error: Error) => {
        const code = error instanceof PkiError ? error.code : 'internal';
        reply({ id, failure: { code, detail: error.message }, response: undefined });
      },
    );
  });
}

/** Before a worker that exited is restarted. */
const restartMs = 200;
/** This many exits within this time raise an alarm: one is an accident, more have a cause that stays. */
const alarm = { deaths: 3, withinMs: 600_000 } as const;

interface Member<T> {
  readonly thread: T;
  /** Undoes what other parts hold for the worker. */
  readonly forget: () => void;
}

/** A fixed number of workers of one kind. A worker that exits is replaced; the others are not affected. */
export class WorkerSupervisor<T extends { readonly ended: Promise<void>; close(): Promise<void> }> {
  readonly #begin: (number: number) => Member<T>;
  readonly #settle: (member: Member<T>) => Promise<void>;
  readonly #logger: Logger;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #members = new Map<number, Member<T>>();
  /** Monotonic milliseconds of the last exits. */
  #deaths: number[] = [];
  #isClosing = false;

  constructor(options: {
    readonly begin: (number: number) => Member<T>;
    /** Sends a new worker its first requests. It receives broadcasts from its start on. */
    readonly settle: (member: Member<T>) => Promise<void>;
    readonly logger: Logger;
    readonly clock?: Pick<Clock, 'monotonicMs'>;
  }) {
    this.#clock = options.clock ?? systemClock;
    this.#begin = options.begin;
    this.#settle = options.settle;
    this.#logger = options.logger;
  }

  /** Resolves when all workers are ready. If one cannot be, closes all and rejects. */
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
    // Before anything is awaited, so that broadcasts reach this one too.
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
      // A worker that cannot listen is closed; its end restarts it.
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
