import type { Clock } from './clock.ts';

/** What is left to be slewed: a clock is set by fractions of a second all the time, and drifts. More is a step. */
const slewMs = 5000;
const driftShare = 0.001;
/** How far clocks of one service may be apart. */
const skewMaxMs = 1000;
/** An absence of less is not worth a line of the log. */
const absenceMs = 3_600_000;

/** What became of a clock, for an operator. */
export interface ClockNews {
  readonly level: 'warn' | 'error';
  readonly message: string;
  readonly act: string;
}

/**
 * The time by which a record is written and its status given out. Invariants:
 *
 * - It never goes back, and never falls behind the highest time on record: no revocation is dated before an answer that said
 *   *good*, and no list before the one before it. Two people alone take it back (`takeBack`).
 * - While running, the machine's clock is believed as long as it agrees with the monotonic one. After a step, in either
 *   direction, time goes on by the monotonic clock, so that everything but issuing goes on; `whyUnreliable` says why nothing
 *   may be issued, until the two agree again.
 * - At the start any time from the highest on record on is believed, but beyond `startStepMaxMs`.
 *
 * A machine that slept is none whose clock stepped: where the kernel says how long it has been up, sleep included, that is asked.
 * Not handled: a clock that was wrong when the record was first opened, and one that drifts by less than a thousandth.
 *
 * Threads see the same time through `shift` once the main thread has looked at its clock, which it does every second.
 */
export class SteadyClock implements Clock {
  readonly shift: SharedArrayBuffer;
  readonly #inner: Clock;
  readonly #shift: Float64Array;
  readonly #isShared: boolean;
  /** The machine's clock and the others when it was last believed for itself. */
  #anchor: { readonly rawMs: number; readonly monotonicMs: number; readonly upMs: number | undefined };
  #last: { readonly steadyMs: number; readonly monotonicMs: number };
  #isTrusted = true;
  /** How far the machine's clock is ahead of this one, below zero behind; null where it is believed. */
  #steppedMs: number | null = null;
  /** How far the clock of a server that others write to is ahead, below zero behind, milliseconds. */
  #skewMs = 0;
  #startStepMaxMs = Number.POSITIVE_INFINITY;
  #lastNews: string | undefined;

  constructor(inner: Clock) {
    this.#inner = inner;
    this.#isShared = inner.shift !== undefined;
    this.shift = inner.shift ?? new SharedArrayBuffer(2 * 8);
    this.#shift = new Float64Array(this.shift);
    this.#shift[1] = 0;
    const now = this.#now();
    this.#anchor = now;
    this.#last = { steadyMs: now.rawMs, monotonicMs: now.monotonicMs };
  }

  /** Begins from the highest time on record; returns what the start log says of it. */
  begin(floorMs: number, startStepMaxMs: number): ClockNews | undefined {
    const now = this.#now();
    this.#startStepMaxMs = startStepMaxMs;
    this.#isTrusted = false;
    this.#last = { steadyMs: Math.max(floorMs, 0), monotonicMs: now.monotonicMs };
    if (floorMs === 0) this.#trust(now);
    else this.#judge();
    const absentMs = now.rawMs - floorMs;
    if (floorMs === 0 || absentMs < absenceMs) return undefined;
    return {
      level: 'warn',
      message: `the last time on record is ${Math.round(absentMs / 60_000)} min ago, or the clock is ahead`,
      act: 'see that the clock is right: what is written by one that is ahead binds the record to it',
    };
  }

  wallMs(): number {
    return this.#judge();
  }

  monotonicMs(): number {
    return this.#inner.monotonicMs();
  }

  /** The machine's own clock, which TLS goes by: who calls is let in by it whatever stands on record. */
  get machine(): Clock {
    return { wallMs: () => this.#rawMs(), monotonicMs: () => this.monotonicMs() };
  }

  /** The clock of the database server, which other nodes date by, too, was found to be so far ahead, below zero behind. */
  noteSkew(ms: number): void {
    this.#skewMs = ms;
  }

  whyUnreliable(): string | undefined {
    const nowMs = this.#judge();
    if (this.#steppedMs === null) return this.#whySkewed();
    const seconds = Math.round(Math.abs(this.#steppedMs) / 1000);
    if (this.#steppedMs < 0) return `the clock is ${seconds} s behind what is on record`;
    return this.#isTrusted
      ? `the clock stepped ${seconds} s ahead while the service ran`
      : `the clock is ${seconds} s ahead of the last time on record, beyond clock.startStepMax (time goes on from ${new Date(nowMs).toISOString()})`;
  }

  #whySkewed(): string | undefined {
    if (Math.abs(this.#skewMs) <= skewMaxMs) return undefined;
    const seconds = (Math.abs(this.#skewMs) / 1000).toFixed(0);
    return `the clock is ${seconds} s ${this.#skewMs > 0 ? 'behind' : 'ahead of'} that of the database server`;
  }

  /** What is new of it since this was last asked: once when it becomes unreliable. */
  news(): ClockNews | undefined {
    const why = this.whyUnreliable();
    // The seconds change; what it is does not.
    const what = why?.replace(/\d+ s/, '');
    if (what === this.#lastNews) return undefined;
    this.#lastNews = what;
    if (why === undefined) return { level: 'warn', message: 'the clock is right again', act: 'nothing' };
    if (why.includes('database server'))
      return { level: 'error', message: why, act: 'set both clocks right: have them follow the same source' };
    const act = why.includes('behind')
      ? 'set the clock right; where it is right and was ahead before, two administrators take the record’s time back'
      : 'set the clock right; where it is right, start the service again';
    return { level: 'error', message: why, act };
  }

  /** Goes by the machine's clock from now on, though it is behind. Two people have decided so. Gives what undoes it. */
  takeBack(): () => void {
    const before = { anchor: this.#anchor, steadyMs: this.#judge(), isTrusted: this.#isTrusted };
    const now = this.#now();
    this.#last = { steadyMs: now.rawMs, monotonicMs: now.monotonicMs };
    this.#trust(now);
    return () => {
      this.#last = { steadyMs: before.steadyMs, monotonicMs: now.monotonicMs };
      this.#anchor = before.anchor;
      this.#isTrusted = before.isTrusted;
    };
  }

  #rawMs(): number {
    return this.#inner.wallMs() - (this.#isShared ? (this.#shift[1] ?? 0) : 0);
  }

  #now() {
    return { rawMs: this.#rawMs(), monotonicMs: this.#inner.monotonicMs(), upMs: this.#inner.upMs?.() };
  }

  #trust(now: { rawMs: number; monotonicMs: number; upMs: number | undefined }): void {
    this.#anchor = now;
    this.#isTrusted = true;
  }

  #judge(): number {
    const rawMs = this.#rawMs();
    const monotonicMs = this.#inner.monotonicMs();
    const goesOnMs = this.#last.steadyMs + Math.max(0, monotonicMs - this.#last.monotonicMs);
    if (!this.#isTrusted) this.#considerStart(rawMs, goesOnMs);
    const isBelieved = this.#isTrusted && this.#agrees(rawMs, monotonicMs);
    const steadyMs = Math.max(this.#last.steadyMs, isBelieved ? rawMs : Math.round(goesOnMs));
    this.#steppedMs = isBelieved ? null : rawMs - steadyMs;
    this.#last = { steadyMs, monotonicMs };
    this.#shift[1] = steadyMs - rawMs;
    return steadyMs;
  }

  /** At the start, and while it has not been believed since: from the highest time on record on it is. */
  #considerStart(rawMs: number, goesOnMs: number): void {
    const stepMs = rawMs - goesOnMs;
    if (stepMs >= -slewMs && stepMs <= this.#startStepMaxMs) this.#trust(this.#now());
  }

  #agrees(rawMs: number, monotonicMs: number): boolean {
    const { rawMs: wasMs, monotonicMs: sinceMs } = this.#anchor;
    const elapsedMs = monotonicMs - sinceMs;
    const allowedMs = slewMs + elapsedMs * driftShare;
    const stepMs = rawMs - wasMs - elapsedMs;
    if (Math.abs(stepMs) <= allowedMs) return true;
    return stepMs > 0 && this.#slept(rawMs, monotonicMs, allowedMs);
  }

  /** Whether the machine slept meanwhile, which the monotonic clock does not count. */
  #slept(rawMs: number, monotonicMs: number, allowedMs: number): boolean {
    const upMs = this.#inner.upMs?.();
    if (upMs === undefined || this.#anchor.upMs === undefined) return false;
    if (Math.abs(rawMs - this.#anchor.rawMs - (upMs - this.#anchor.upMs)) > allowedMs) return false;
    this.#trust({ rawMs, monotonicMs, upMs });
    return true;
  }
}
