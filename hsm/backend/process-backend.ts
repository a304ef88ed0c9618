import { type ChildProcess, fork } from 'node:child_process';
import type { Writable } from 'node:stream';
import { suites } from '../../core/asn1/algorithms.ts';
import { BackOff } from '../../core/runtime/back-off.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { variablesOf } from '../../core/runtime/secret-source.ts';
import type { TokenKey } from '../pkcs11/token.ts';
import type { SigningBackend, SigningResult, SigningTask } from '../pool/signing-task.ts';
import type { FromProcess, Heartbeat, ProcessStart, TokenCall, ToProcess } from './process-messages.ts';
import type { TokenPort } from './token-port.ts';

/** A process that lived less long is started again later each time, up to a limit. */
const stableMs = 10_000;
const restarts = { firstMs: 50, mostMs: 5000 };

/** What a supervisor reports of a process that ended. */
export type Ended = (what: { readonly why: string }) => void;

/**
 * Signing processes, each with one thread, its own login and its own copy of the module. A call that does not return
 * within `callTimeoutMs` has its process killed; one that ended, however, is started again, and what it was asked is
 * asked of another, once: all that is asked here may be asked twice.
 */
export class ProcessBackend implements SigningBackend {
  readonly width: number;
  readonly #children: Supervised[];

  constructor(options: {
    readonly processes: number;
    readonly start: ProcessStart;
    readonly callTimeoutMs: number;
    readonly clock: Clock;
    readonly ended: Ended;
  }) {
    this.width = options.processes;
    this.#children = Array.from({ length: options.processes }, () => new Supervised(options));
  }

  /** How often processes were started again. */
  get restarts(): number {
    return this.#children.reduce((sum, { restarts }) => sum + restarts, 0);
  }

  async run(task: SigningTask): Promise<SigningResult> {
    try {
      return (await this.#ask({ type: 'sign', task })) as SigningResult;
    } catch (error) {
      return { ok: false, error: (error as Error).message };
    }
  }

  async heal(): Promise<void> {
    await this.#ask({ type: 'heal' });
  }

  /** A token as these processes reach it. */
  token(label: string): TokenPort {
    const call = async <R>(what: TokenCall): Promise<R> =>
      (await this.#ask({ type: 'token', call: what })) as R;
    return {
      label,
      findKeyPair: (name, suite) =>
        call<TokenKey>({ token: label, call: 'findKeyPair', args: [name, suites[suite.name].name] }),
      keyWrapper: (name) => ({
        wrap: (context, secret) => call<Bytes>({ token: label, call: 'wrap', args: [name, context, secret] }),
        unwrap: (context, wrapped) =>
          call<Bytes>({ token: label, call: 'unwrap', args: [name, context, wrapped] }),
      }),
      memory: () => ({
        recall: (name) => call<number>({ token: label, call: 'recall', args: [name] }),
        remember: (name, value) => call<void>({ token: label, call: 'remember', args: [name, value] }),
      }),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.close()));
  }

  async #ask(message: ToProcess): Promise<unknown> {
    const first = this.#leastBusy();
    try {
      return await first.ask(message);
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
      return this.#leastBusy(first).ask(message);
    }
  }

  #leastBusy(except?: Supervised): Supervised {
    const [least] = this.#children
      .filter((child) => child !== except || this.#children.length === 1)
      .sort((a, b) => a.busy - b.busy);
    if (!least) throw new PkiError('token-unavailable', 'there is no signing process');
    return least;
  }
}

/** What was asked of a process that is gone. Its fate is unknown. */
class ProcessEnded extends PkiError {
  constructor(why: string) {
    super('token-unavailable', `the signing process ${why}`);
    this.name = 'ProcessEnded';
  }
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** One process, started again whenever it ends. */
class Supervised {
  readonly #options: ConstructorParameters<typeof ProcessBackend>[0];
  readonly #waiting = new Map<number, Waiting>();
  #child: ChildProcess | undefined;
  #startedMs = 0;
  readonly #restarting = new BackOff(restarts);
  #restart: NodeJS.Timeout | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closing = false;
  #up = Promise.withResolvers<void>();
  #why = 'ended';
  #ids = 0;
  restarts = 0;

  constructor(options: ConstructorParameters<typeof ProcessBackend>[0]) {
    this.#options = options;
    this.#begin();
  }

  get busy(): number {
    return this.#child ? this.#waiting.size : Number.MAX_SAFE_INTEGER;
  }

  /** Where the process is just being started again, this waits for it. */
  async ask(message: ToProcess): Promise<unknown> {
    await this.#up.promise;
    const child = this.#child;
    if (!child) throw new ProcessEnded('is being closed');
    return new Promise((resolve, reject) => {
      const id = ++this.#ids;
      this.#waiting.set(id, { resolve, reject });
      if (this.#waiting.size === 1) this.#watch();
      child.send(
        { ...message, id },
        (error) => error && this.#settle(id, new ProcessEnded('cannot be reached')),
      );
    });
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#restart);
    this.#up.resolve();
    const child = this.#child;
    if (!child) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    // It ends by itself when what it was asked is answered; what hangs is killed by its own time limit.
    child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), this.#options.callTimeoutMs);
    await ended;
    clearTimeout(timer);
  }

  #begin(): void {
    try {
      this.#fork();
    } catch (error) {
      // The machine is out of something: it may not be for long.
      this.#options.ended({ why: `cannot be started: ${(error as Error).message}` });
      this.#restart = setTimeout(() => this.#begin(), restarts.mostMs);
    }
  }

  #fork(): void {
    const { start, clock } = this.#options;
    const child = fork(new URL('./signing-process.ts', import.meta.url), {
      serialization: 'advanced',
      // The last is the pipe by which PINs of the environment are handed over: no message, argument or variable holds one.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc', 'pipe'],
      execArgv: [],
    });
    const pipe = child.stdio[4] as Writable | null | undefined;
    pipe?.on('error', () => child.kill('SIGKILL'));
    pipe?.end(JSON.stringify(variablesOf(start.tokens.map(({ pin }) => pin))));
    this.#child = child;
    this.#startedMs = clock.monotonicMs();
    this.#why = 'ended';
    child.on('message', (message: FromProcess | Heartbeat) => {
      if ('beat' in message) return this.#watch();
      this.#settle(message.id, message.ok ? undefined : new PkiError(message.code, message.detail), message);
    });
    child.on('error', () => this.#over(child));
    child.once('exit', () => this.#over(child));
    child.send({ type: 'start', start, id: 0 }, (error) => error && child.kill('SIGKILL'));
    this.#up.resolve();
  }

  /** A sign of life: the time of the oldest call that is not answered begins now. */
  #watch(): void {
    clearTimeout(this.#timer);
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#kill(), this.#options.callTimeoutMs);
  }

  #kill(): void {
    this.#why = `gave no answer within ${this.#options.callTimeoutMs} ms and was killed`;
    this.#child?.kill('SIGKILL');
  }

  #over(child: ChildProcess): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    const ended = new ProcessEnded(this.#why);
    if (!this.#closing) {
      this.#up = Promise.withResolvers();
      this.#options.ended({ why: this.#why });
      this.restarts += 1;
      const lived = this.#options.clock.monotonicMs() - this.#startedMs;
      // One that has lived is begun again at once.
      if (lived >= stableMs) this.#restarting.succeeded();
      const waitMs = lived >= stableMs ? 0 : this.#restarting.failed();
      this.#restart = setTimeout(() => this.#begin(), waitMs);
    }
    for (const id of [...this.#waiting.keys()]) this.#settle(id, ended);
  }

  #settle(id: number, error: unknown, message?: FromProcess): void {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    this.#watch();
    if (error) waiting.reject(error);
    else waiting.resolve(message?.ok ? message.value : undefined);
  }
}
