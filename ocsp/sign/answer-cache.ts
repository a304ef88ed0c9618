import type { Place } from '../index/index-reader.ts';
import type { Stamp } from '../index/segment.ts';
import type { Answer } from '../protocol/prepared-answer.ts';
import type { ResponseMoment } from '../protocol/response.ts';

/** A signed answer about one certificate, and what the index knew of it when it was signed. */
export interface CachedAnswer {
  readonly answer: Answer;
  readonly place: Place;
  readonly stamp: Stamp;
  readonly nextUpdateMs: number;
  /** From then on a request has it signed again in the background, while the old one is given. */
  readonly refreshAtMs: number;
  /** Asked for since it was last passed over. */
  used: boolean;
  refreshing: boolean;
}

/**
 * Signed answers of one thread, bounded in octets. An answer is given only while the index says of its certificate what
 * it said when the answer was signed: an event anywhere makes the answer vanish here at once, without a message.
 */
export class AnswerCache {
  readonly #octetsMax: number;
  readonly #answers = new Map<string, CachedAnswer>();
  /** Only while answers are being let go of: an iterator keeps alive whatever its map held when it was made. */
  #hand: MapIterator<[string, CachedAnswer]> | undefined;
  #octets = 0;

  constructor(octetsMax: number) {
    this.#octetsMax = octetsMax;
  }

  get size(): number {
    return this.#answers.size;
  }

  get(key: string, nowMs: number): CachedAnswer | undefined {
    const cached = this.#answers.get(key);
    if (!cached) return undefined;
    const { answer, place, stamp, nextUpdateMs } = cached;
    // One that lies ahead was signed while the clock was.
    const isTimely = nowMs < nextUpdateMs && (answer.fresh?.thisUpdateMs ?? 0) <= nowMs;
    if (place.segment.stamp(place.offset) !== stamp || !isTimely) {
      this.#remove(key, cached);
      return undefined;
    }
    cached.used = true;
    return cached;
  }

  set(key: string, cached: CachedAnswer): void {
    if (cached.answer.octets > this.#octetsMax) return;
    this.#octets += cached.answer.octets - (this.#answers.get(key)?.answer.octets ?? 0);
    this.#answers.set(key, cached);
    if (this.#octets <= this.#octetsMax) this.#hand = undefined;
    while (this.#octets > this.#octetsMax) this.#evict();
  }

  clear(): void {
    this.#answers.clear();
    this.#hand = undefined;
    this.#octets = 0;
  }

  /** The CLOCK algorithm: an entry that was used since the last round is passed over once. */
  #evict(): void {
    for (;;) {
      this.#hand ??= this.#answers.entries();
      const { value, done } = this.#hand.next();
      if (done) {
        this.#hand = undefined;
        continue;
      }
      const [key, cached] = value;
      if (!cached.used) {
        this.#remove(key, cached);
        return;
      }
      cached.used = false;
    }
  }

  #remove(key: string, cached: CachedAnswer): void {
    this.#answers.delete(key);
    this.#octets -= cached.answer.octets;
  }
}

/** An answer that may be given again until it ends, and is signed again some time before. */
export function toKeep(answer: Answer, place: Place, stamp: Stamp, moment: ResponseMoment): CachedAnswer {
  const { producedMs, nextUpdateMs } = moment;
  // Spread, so that answers signed within one second are not renewed within one second.
  const refreshAtMs = producedMs + (nextUpdateMs - producedMs) * (0.5 + Math.random() * 0.4);
  return { answer, place, stamp, nextUpdateMs, refreshAtMs, used: false, refreshing: false };
}
