import type { Bytes } from '../runtime/bytes.ts';

/** First allocation: a request that does not arrive whole is rarely longer. */
const firstOctets = 2048;
const nothing = Buffer.alloc(0);

/**
 * Octets received and not consumed yet. Appending is linear over the life of a request, however small the pieces; what
 * `view` returned is never written to again, so views of it stay valid while a request is answered.
 */
export class ReceiveBuffer {
  #held: Buffer | undefined;
  /** Octets in use of `#held`; behind them there is room only if `#isOwn`. */
  #end = 0;
  #start = 0;
  #isOwn = false;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Octets from `from` up to and without `to`, counted from the first that is held. */
  view(from: number, to: number): Buffer {
    return this.#held?.subarray(this.#start + from, this.#start + to) ?? nothing;
  }

  append(chunk: Buffer): void {
    const { length } = this;
    if (length === 0) {
      // The common case: a chunk is a whole request, and is not copied.
      this.#hold(chunk, chunk.length, false);
      return;
    }
    const needed = length + chunk.length;
    if (!this.#held || !this.#isOwn || this.#end + chunk.length > this.#held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(firstOctets, needed * 2));
      larger.set(this.view(0, length));
      this.#hold(larger, length, true);
    }
    this.#held?.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** Drops octets from the front. */
  consume(count: number): void {
    this.#start += count;
    if (this.length === 0) this.clear();
  }

  /** Whether what is held begins with these octets. */
  startsWith(octets: Bytes): boolean {
    return (
      this.#held !== undefined &&
      this.length >= octets.length &&
      this.#held.compare(octets, 0, octets.length, this.#start, this.#start + octets.length) === 0
    );
  }

  clear(): void {
    this.#hold(undefined, 0, false);
  }

  #hold(held: Buffer | undefined, end: number, isOwn: boolean): void {
    this.#held = held;
    this.#start = 0;
    this.#end = end;
    this.#isOwn = isOwn;
  }
}
