import type { ClassStatus } from '../../core/model/restriction.ts';
import { reasonNumber } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';

// What restrictions make of each class of phones, in memory that threads share: an entry of eight octets by the number of the class. One
// thread writes; any number read.

const entryOctets = 8;
const entriesAtFirst = 64;

// An entry: state (2 bits: none, held, revoked), reason (3), generation (7); and the time in seconds (32).
const stateOf = { held: 1, revoked: 2 } as const;
const reasonShift = 2;
const generationShift = 5;
const generationMask = 0x7f;

/** Numbers of classes that a certificate can have: see `Segment`. */
export const classesMax = 2 ** 24 - 1;

/** What is made of a certificate's class. */
export interface Restricted {
  readonly state: 'none' | 'held' | 'revoked';
  readonly reason: number;
  readonly seconds: number;
  /** Rises with each change, and begins again after 127: within the life of an answer it is never the same again. */
  readonly generation: number;
}

export class ClassTable {
  #words: Uint32Array;
  #entries: BigUint64Array;
  #memory: SharedArrayBuffer;

  constructor(memory = new SharedArrayBuffer(entriesAtFirst * entryOctets)) {
    this.#memory = memory;
    this.#words = new Uint32Array(memory);
    this.#entries = new BigUint64Array(memory);
  }

  get memory(): SharedArrayBuffer {
    return this.#memory;
  }

  /** Other memory with the same content and more. */
  use(memory: SharedArrayBuffer): void {
    this.#memory = memory;
    this.#words = new Uint32Array(memory);
    this.#entries = new BigUint64Array(memory);
  }

  hasRoomFor(number: number): boolean {
    return number < this.#entries.length;
  }

  /** Memory with room for a class, and the same content. Throws `overloaded` where a certificate could not name it. */
  grownFor(number: number): SharedArrayBuffer {
    if (number > classesMax) throw new PkiError('overloaded', `more than ${classesMax} kinds of phones`);
    const memory = new SharedArrayBuffer(Math.max(number + 1, this.#entries.length * 2) * entryOctets);
    new BigUint64Array(memory).set(this.#entries);
    return memory;
  }

  set(number: number, status: ClassStatus | undefined): void {
    const before = this.#words[number * 2] ?? 0;
    const generation = ((before >>> generationShift) & generationMask) % generationMask;
    const state = status ? stateOf[status.state] : 0;
    const reason = status ? reasonNumber[status.state === 'held' ? 'certificateHold' : status.reason] : 0;
    const word = state | (reason << reasonShift) | ((generation + 1) << generationShift);
    const seconds = Math.floor((status?.heldMs ?? 0) / 1000);
    // In one piece, so that no reader sees half of it.
    Atomics.store(this.#entries, number, (BigInt(seconds) << 32n) | BigInt(word));
  }

  /** undefined where nothing has ever restricted the class. */
  at(number: number): Restricted | undefined {
    if (number >= this.#entries.length || Atomics.load(this.#words, number * 2) === 0) return undefined;
    const entry = Atomics.load(this.#entries, number);
    const word = Number(entry & 0xffffffffn);
    const state = (word & 3) === stateOf.held ? 'held' : (word & 3) === stateOf.revoked ? 'revoked' : 'none';
    return {
      state,
      reason: (word >>> reasonShift) & 7,
      seconds: Number(entry >> 32n),
      generation: (word >>> generationShift) & generationMask,
    };
  }
}
