import { type Clock, refuseUnreliable } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type Nodes, nodesMax } from '../../store/api/nodes.ts';

/** A time of request and a number within that second: no two requests have both alike. */
export interface RequestNumber {
  /** Milliseconds since 1970, a whole second. */
  readonly secondMs: number;
  /** 0 to 99,999: five digits of a name. */
  readonly sequence: number;
}

/** Numbers of one second for each time that it is: a second that was taken back comes again, and has others then. */
const numbersEach = 20_000;
const timesMax = 5;
/** Which of a second's numbers one node gives. */
interface Share {
  readonly first: number;
  readonly count: number;
}
const wholeShare: Share = { first: 0, count: numbersEach };

/** The share of one of several nodes, which no other has in the same second. */
export function shareOf({ ordinal }: Pick<Nodes, 'ordinal'>): Share {
  const count = numbersEach / nodesMax;
  return ordinal === null ? wholeShare : { first: ordinal * count, count };
}

/** A span of time that was, and comes again. */
export interface TakenBack {
  readonly fromMs: number;
  /** null of one that is only proposed. */
  readonly toMs: number | null;
}

/** How far a clock may have been set back before a number refuses: the record refuses such a clock too. */
const setBackMsMax = 5000;

/**
 * Numbers requests so that their names are unique (RFC 5280 §4.1.2.6), under one issuer name whatever its generations: time
 * only goes on, in this process and from the last time on record, which no name is later than.
 */
export class RequestNumbers {
  readonly #clock: Clock;
  #secondMs: number;
  #next = numbersEach;

  readonly #takenBack: TakenBack[];
  readonly #shareNow: () => Share;

  /** `recordedMs`: the latest time on record; names of that second may have been given. */
  constructor(
    clock: Clock,
    recordedMs: number,
    {
      takenBack = [],
      share = () => wholeShare,
    }: { readonly takenBack?: readonly TakenBack[]; readonly share?: () => Share } = {},
  ) {
    this.#clock = clock;
    this.#shareNow = share;
    this.#secondMs = wholeSecond(recordedMs);
    this.#takenBack = takenBack.filter(({ toMs }) => toMs !== null);
  }

  /** Seconds in between come again, from the next request on. */
  takeBack(takenBack: TakenBack): void {
    this.#takenBack.push(takenBack);
    this.#secondMs = wholeSecond(takenBack.toMs ?? this.#secondMs);
    this.#next = numbersEach;
  }

  /** The first number of a second. */
  #firstOf(secondMs: number): number {
    const times = this.#takenBack.filter(
      ({ fromMs, toMs }) => toMs !== null && secondMs >= wholeSecond(toMs) && secondMs <= fromMs,
    ).length;
    if (times >= timesMax)
      throw new PkiError('clock-unreliable', 'this time was taken back too often: its names have been given');
    return times * numbersEach;
  }

  /** Waits for the next second where this one has no number left. Rejects with `clock-unreliable` for a clock set back. */
  async next(): Promise<RequestNumber> {
    for (;;) {
      refuseUnreliable(this.#clock);
      const leftMs = this.#secondMs - this.#clock.wallMs();
      if (leftMs > setBackMsMax)
        throw new PkiError(
          'clock-unreliable',
          `the clock is ${Math.round(leftMs / 1000)} s behind what is on record`,
        );
      if (leftMs <= -1000) {
        this.#secondMs = wholeSecond(this.#clock.wallMs());
        this.#next = 0;
      }
      const { first, count } = this.#shareNow();
      if (this.#next < count)
        return {
          secondMs: this.#secondMs,
          sequence: this.#firstOf(this.#secondMs) + first + this.#next++,
        };
      await new Promise((done) => setTimeout(done, leftMs + 1000));
    }
  }
}

const wholeSecond = (ms: number): number => Math.floor(ms / 1000) * 1000;
