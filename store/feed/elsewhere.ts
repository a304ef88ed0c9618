import { readFileSync } from 'node:fs';
import type { Confirming, ConfirmingFollower } from '../../core/feed/feed.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { covers, leastOf, mostOf, type Positions } from '../api/nodes.ts';

// Followers in processes of their own that confirm what they have applied. Invariants:
//
// - A follower applies batches in order, and answers by the last watermark that it applied for `answersForMs`. So `answersForMs` after a change
//   was committed it has applied that change, or answers nothing any more by what it knew.
// - One that was waited for in vain is sent no watermark until it has confirmed what it missed, whatever process or connection it has: so it
//   answers nothing, and is not waited for again.
// - A follower is in the file before it is sent its first batch, and stays there until it may answer no more: after a restart it is waited for,
//   although nothing else is known of it.
//
// Not handled here: a follower whose clock is behind this one's answers for longer, by as much.

/** Followers that are known at once, those included that are gone and may still answer: of all, and of one client. */
const [followersMax, ofClientMax] = [1024, 16];
/** How much later than a follower's time has passed it is believed to have passed. */
const marginMs = 250;

interface Follower {
  readonly answersForMs: number;
  positions: Positions;
  isConnected: boolean;
  /** Whether it is connected and was sent a watermark: then it may answer until it is known not to. */
  isLive: boolean;
  /** Until when it may answer by what it had before: monotonic milliseconds. */
  untilMs: number;
  /** Resolved when what is being read for it is sent; null while nothing is. */
  reading: PromiseWithResolvers<void> | null;
  /** What it was waited for in vain; null where it owes nothing. */
  owes: Positions | null;
  /** Ends its connection. */
  readonly stop: () => void;
}

interface Waiting {
  readonly key: string;
  readonly positions: Positions;
  readonly resolve: () => void;
}

export class Elsewhere {
  readonly #clock: Clock;
  readonly #file: string | null;
  readonly #failed: (error: Error) => void;
  readonly #followers = new Map<string, Follower>();
  readonly #waiting = new Set<Waiting>();
  /** What followers of a client were waited for in vain, by the client's fingerprint. */
  readonly #owed = new Map<string, Positions>();
  /** What was waited out of each follower: by then it has applied that, or answers nothing by what it knew before. */
  readonly #passed = new Map<string, Positions>();
  /** What the file holds. */
  #saved = '';
  #changed: () => void = () => undefined;

  /** Without a file nothing outlives the process. `failed` is told why it cannot be written. */
  constructor({
    clock,
    file,
    failed = () => undefined,
  }: {
    readonly clock: Clock;
    readonly file: string | null;
    readonly failed?: (error: Error) => void;
  }) {
    this.#clock = clock;
    this.#file = file;
    this.#failed = failed;
    for (const [key, answersForMs] of file === null ? [] : followersIn(file))
      this.#followers.set(key, {
        ...{ answersForMs, positions: {}, isConnected: false, isLive: false, reading: null },
        ...{ owes: null, stop: () => undefined },
        untilMs: clock.monotonicMs() + answersForMs + marginMs,
      });
  }

  /** Has `act` called when a follower has come further, or may answer no more. */
  onChange(act: () => void): void {
    this.#changed = act;
  }

  /** A follower connects; it may answer by something where it has a cursor. Throws `overloaded` where too many are known. */
  begin({ key, answersForMs }: ConfirmingFollower, hasCursor: boolean, stop: () => void): Confirming {
    this.#forget();
    const before = this.#followers.get(key);
    before?.stop();
    if (!before) this.#refuseMany(key);
    const nowMs = this.#clock.monotonicMs();
    const follower: Follower = {
      ...{ answersForMs, positions: {}, isConnected: true, isLive: false, reading: null, stop },
      owes: this.#owed.get(clientOf(key)) ?? null,
      untilMs: hasCursor ? nowMs + answersForMs + marginMs : Math.max(nowMs, before?.untilMs ?? nowMs),
    };
    this.#followers.set(key, follower);
    try {
      this.#save();
    } catch (error) {
      // It is sent nothing, and what it had before still counts.
      if (before) this.#followers.set(key, { ...before, isConnected: false, isLive: false });
      else this.#followers.delete(key);
      throw error;
    }
    return this.#confirming(key, follower);
  }

  #refuseMany(key: string): void {
    const client = clientOf(key);
    const ofClient = [...this.#followers.keys()].filter((each) => clientOf(each) === client).length;
    if (ofClient >= ofClientMax)
      throw new PkiError(
        'overloaded',
        `${ofClientMax} followers of this client are known: try again in some seconds`,
      );
    if (this.#followers.size >= followersMax)
      throw new PkiError('overloaded', `${followersMax} followers are known: try again in some seconds`);
  }

  /** How far all have come that may answer; undefined where there are none. */
  async least(): Promise<Positions | undefined> {
    this.#forget();
    await this.#read();
    const nowMs = this.#clock.monotonicMs();
    const answering = [...this.#followers.values()].filter(
      ({ isLive, untilMs }) => isLive || untilMs > nowMs,
    );
    return answering.map(({ positions }) => positions).reduce<Positions | undefined>(leastOf, undefined);
  }

  /** Whether any may answer. */
  get mayAnswer(): boolean {
    this.#forget();
    return this.#followers.size > 0;
  }

  /** Resolves once all have come so far, or may not answer any more by what they knew before. */
  async reached(positions: Positions): Promise<void> {
    this.#forget();
    if (this.#followers.size === 0) return;
    await this.#read();
    await Promise.all(
      [...this.#followers].map(([key, follower]) => this.#reachedBy(key, follower, positions)),
    );
  }

  /** What is being read for those that catch up may lack what was committed since, and be complete. */
  async #read(): Promise<void> {
    await Promise.all(
      [...this.#followers.values()].map(({ isLive, reading }) => (isLive ? undefined : reading?.promise)),
    );
  }

  async #reachedBy(key: string, follower: Follower, positions: Positions): Promise<void> {
    const waitMs = follower.isLive
      ? follower.answersForMs + marginMs
      : follower.untilMs - this.#clock.monotonicMs();
    if (waitMs <= 0 || covers(this.#followers.get(key)?.positions, positions)) return;
    if (covers(this.#passed.get(key), positions)) return;
    const reached = Promise.withResolvers<boolean>();
    const waiting = { key, positions, resolve: () => reached.resolve(true) };
    this.#waiting.add(waiting);
    const timer = setTimeout(() => reached.resolve(false), waitMs);
    const hasConfirmed = await reached.promise;
    clearTimeout(timer);
    this.#waiting.delete(waiting);
    if (hasConfirmed) return;
    this.#passed.set(key, mostOf(this.#passed.get(key), positions));
    const client = clientOf(key);
    this.#owed.set(client, mostOf(this.#owed.get(client), positions));
    // Where it stands is learned when it connects again.
    if (follower.isLive) follower.stop();
  }

  #confirming(key: string, follower: Follower): Confirming {
    return {
      reads: () => {
        follower.reading ??= Promise.withResolvers();
      },
      sent: (watermarkMs) => {
        const givenMs = follower.owes ? 0 : watermarkMs;
        follower.isLive = givenMs > 0;
        if (follower.isLive) follower.untilMs = this.#until(follower);
        follower.reading?.resolve();
        follower.reading = null;
        return givenMs;
      },
      applied: (positions) => {
        follower.positions = positions;
        if (follower.owes && covers(positions, follower.owes)) {
          follower.owes = null;
          this.#owed.delete(clientOf(key));
        }
        this.#wake(key, follower);
      },
      end: () => {
        follower.isLive = false;
        follower.isConnected = false;
        follower.reading?.resolve();
        follower.reading = null;
      },
    };
  }

  #until({ answersForMs }: Follower): number {
    return this.#clock.monotonicMs() + answersForMs + marginMs;
  }

  #wake(key: string, follower: Follower): void {
    if (this.#followers.get(key) !== follower) return;
    for (const waiting of this.#waiting)
      if (waiting.key === key && covers(follower.positions, waiting.positions)) waiting.resolve();
    this.#changed();
  }

  /** Forgets those that are gone and may not answer any more. */
  #forget(): void {
    const nowMs = this.#clock.monotonicMs();
    const gone = [...this.#followers].filter(
      ([, { isConnected, untilMs }]) => !isConnected && untilMs <= nowMs,
    );
    for (const [key] of gone) {
      this.#followers.delete(key);
      this.#passed.delete(key);
    }
    if (gone.length === 0) return;
    try {
      this.#save();
    } catch (error) {
      // Who is in the file for too long is waited for once more after a restart, and no revocation fails for that.
      this.#failed(error as Error);
    }
  }

  #save(): void {
    if (this.#file === null) return;
    const known = [...this.#followers].map(([key, { answersForMs }]) => [key, answersForMs]);
    const text = JSON.stringify(Object.fromEntries(known));
    if (text === this.#saved) return;
    replaceDurably(this.#file, text);
    this.#saved = text;
  }
}

/** Keys begin with the client's fingerprint. */
const clientOf = (key: string): string => key.split(' ')[0] ?? '';

/** Followers that were connected when the process before ended. */
function followersIn(file: string): [string, number][] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  try {
    return Object.entries(JSON.parse(text) as Record<string, number>);
  } catch (error) {
    throw new PkiError(
      'record-unavailable',
      `${file} is damaged: delete it, and start again once all OCSP nodes elsewhere say tryLater`,
      { cause: error },
    );
  }
}
