import { isRevocationReason, type RevocationReason, reasonNumber } from '../../core/model/revocation.ts';
import type { ClassTable, Restricted } from './class-table.ts';

/** Certificates of one segment, 2^18: small enough to be grown, written out and retired one by one. */
export const segmentLength = 2 ** 18;

/** Two bits a certificate. What has ever been more than issued stands in the segment's table of changes. */
export const code = { unissued: 0, good: 1, changed: 2, retired: 3 } as const;

/** The memory of a segment. Sent to another thread it is not copied: what one writes, all see. */
export interface SegmentMemory {
  /** Codes, four in an octet. */
  readonly codes: SharedArrayBuffer;
  /** Hash table of eight octets an entry, open addressing. */
  readonly changes: SharedArrayBuffer;
  /** Of which classes phones are, in parts of `partLength` certificates: undefined where a part has no phone. */
  readonly classes: readonly (SharedArrayBuffer | undefined)[];
}

/** Certificates of one part: as many as are leased at once, so that those of cards cost nothing where few nodes issue to phones. */
export const partLength = 4096;
/** A certificate's class: its number (24 bits), and the version that said so (8 bits; behind the last it is the order of the feed that decides). */
const classVersionMax = 255;

/**
 * Everything the index knows of one certificate, in one number: whatever was signed at a stamp holds as long as the certificate has that stamp.
 * Two stamps are equal only where nothing has happened in between, but for a phone that has reported to be of another class and of the first again.
 */
export type Stamp = number;

/** Above everything else stands the generation of what restricts the class: 7 bits, zero where nothing ever has. */
const generationUnit = 2 ** 46;

/** Stamps of certificates without an entry in the table of changes are their codes. */
export const stampOf = { unissued: 0, good: 1, retired: 3 } as const;

export interface Change {
  readonly state: 'good' | 'held' | 'revoked';
  readonly version: number;
  readonly revokedMs: number | null;
  readonly reason: RevocationReason | null;
}

const states = ['good', 'held', 'revoked'] as const;
const reasons = Object.keys(reasonNumber).filter(isRevocationReason);
/** Versions stand in nine bits. Behind the last of them it is the order of the feed that decides. */
export const versionMax = 511;

// An entry: offset (18 bits), state (2, never zero), reason (3), version (9); and the time in seconds (32).
const stateShift = 18;
const reasonShift = 20;
const versionShift = 23;
const offsetMask = segmentLength - 1;
const entryOctets = 8;
const loadMax = 0.9;
const growth = 1.15;

const retiredMemory: SegmentMemory = {
  codes: new SharedArrayBuffer(1),
  changes: new SharedArrayBuffer(0),
  classes: [],
};

/** One segment as one thread sees it. One thread writes; any number read. */
export class Segment {
  #codes: Uint8Array;
  #words: Uint32Array;
  #entries: BigUint64Array;
  #memory: SegmentMemory;
  #isRetired: boolean;
  readonly #table: ClassTable;
  #classes: readonly (Uint32Array | undefined)[];

  /** `table`: what restrictions make of classes. */
  constructor(memory: SegmentMemory, table: ClassTable) {
    this.#table = table;
    this.#memory = memory;
    this.#classes = classesIn(memory);
    this.#codes = new Uint8Array(memory.codes);
    this.#words = new Uint32Array(memory.changes);
    this.#entries = new BigUint64Array(memory.changes);
    this.#isRetired = memory.codes.byteLength === retiredMemory.codes.byteLength;
  }

  static empty(table: ClassTable): Segment {
    const codes = new SharedArrayBuffer(segmentLength / 4);
    return new Segment({ codes, changes: new SharedArrayBuffer(16 * entryOctets), classes: [] }, table);
  }

  get memory(): SegmentMemory {
    return this.#memory;
  }

  get retired(): boolean {
    return this.#isRetired;
  }

  /** Replaces the memory: a larger table, or none. Every user of this object sees the new memory. */
  use(memory: SegmentMemory): void {
    const next = new Segment(memory, this.#table);
    this.#memory = memory;
    this.#classes = next.#classes;
    this.#codes = next.#codes;
    this.#words = next.#words;
    this.#entries = next.#entries;
    this.#isRetired = next.#isRetired;
  }

  /** What is to be said of a certificate: its own status, and what restricts its phone. */
  stamp(offset: number): Stamp {
    const own = this.ownStamp(offset);
    const part = this.#classes[Math.floor(offset / partLength)];
    if (part === undefined || own === stampOf.unissued || own === stampOf.retired) return own;
    const restricted = this.#table.at(Atomics.load(part, offset % partLength) >>> 8);
    return restricted ? restrictedStamp(own, restricted) : own;
  }

  /** What the certificate's own events say. */
  ownStamp(offset: number): Stamp {
    const octet = this.#isRetired ? 0xff : Atomics.load(this.#codes, offset >>> 2);
    const found = (octet >>> ((offset & 3) * 2)) & 3;
    return found === code.changed ? this.#changeStamp(offset) : found;
  }

  /** A bit for each certificate that is revoked or held: bit `i & 7` of octet `i >> 3`, in memory that threads share. */
  get revokedBits(): Uint8Array {
    const bits = new Uint8Array(new SharedArrayBuffer(segmentLength / 8));
    if (this.#isRetired) return bits;
    for (let at = 0; at < this.#codes.length; at += 1) {
      // Four codes in an octet; most have never changed, and are of cards.
      if (((this.#codes[at] ?? 0) & 0xaa) === 0 && !this.hasClassOf(at * 4)) continue;
      for (let offset = at * 4; offset < at * 4 + 4; offset += 1) {
        const change = readStamp(this.stamp(offset));
        if (typeof change !== 'string' && change.state !== 'good')
          bits[offset >>> 3] = (bits[offset >>> 3] ?? 0) | (1 << (offset & 7));
      }
    }
    return bits;
  }

  /** Whether the table has no room for one more entry. */
  isFull(used: number): boolean {
    return used + 1 > this.#entries.length * loadMax;
  }

  /** Memory with a larger table and the same content. Nothing is written to the old one from then on. */
  grown(): SegmentMemory {
    const capacity = Math.ceil(this.#entries.length * growth) + 16;
    const changes = new SharedArrayBuffer(capacity * entryOctets);
    const larger = new Segment({ ...this.#memory, changes }, this.#table);
    for (const entry of this.#entries) {
      if (entry !== 0n) larger.#entries[larger.#slot(Number(entry & BigInt(offsetMask)))] = entry;
    }
    return larger.#memory;
  }

  /** Nothing but the fact that all of its certificates are beyond the archive cutoff. */
  static get nothing(): SegmentMemory {
    return retiredMemory;
  }

  setCode(offset: number, value: number): void {
    const at = offset >>> 2;
    const shift = (offset & 3) * 2;
    const octet = this.#codes[at] ?? 0;
    Atomics.store(this.#codes, at, (octet & ~(3 << shift)) | (value << shift));
  }

  /** Whether there is a place for the class of a certificate. */
  hasClassOf(offset: number): boolean {
    return this.#classes[Math.floor(offset / partLength)] !== undefined;
  }

  /** Memory with a place for the class of a certificate, and the same content. */
  withClassOf(offset: number): SegmentMemory {
    const classes = Array.from(
      { length: segmentLength / partLength },
      (_, i): SharedArrayBuffer | undefined => this.#memory.classes[i],
    );
    classes[Math.floor(offset / partLength)] = new SharedArrayBuffer(partLength * 4);
    return { ...this.#memory, classes };
  }

  /** Says of which class a certificate's phone is; there must be a place. Does nothing where a later version has said so. */
  setClass(offset: number, number: number, version: number): void {
    const part = this.#classes[Math.floor(offset / partLength)];
    const before = part?.[offset % partLength] ?? 0;
    const said = Math.min(version, classVersionMax);
    if (!part || (before & 0xff) > said) return;
    Atomics.store(part, offset % partLength, number * 256 + said);
  }

  /** All of its certificates at once: what follows is said of each. */
  fill(value: number): void {
    this.#codes.fill(value * 0x55);
  }

  /** Writes an entry, then the code that points to it. Returns whether the entry is a new one; there must be room. */
  setChange(offset: number, { state, version, revokedMs, reason }: Change): boolean {
    const slot = this.#slot(offset);
    const isNew = this.#words[slot * 2] === 0;
    const word =
      offset +
      (states.indexOf(state) + 1) * 2 ** stateShift +
      (reason === null ? 7 : reasonNumber[reason]) * 2 ** reasonShift +
      Math.min(version, versionMax) * 2 ** versionShift;
    const seconds = Math.floor((revokedMs ?? 0) / 1000);
    // In one piece, so that no reader sees half of it.
    Atomics.store(this.#entries, slot, (BigInt(seconds) << 32n) | BigInt(word));
    this.setCode(offset, code.changed);
    return isNew;
  }

  /** Entries in use: counted when a segment comes from disk. */
  countChanges(): number {
    let used = 0;
    for (let i = 0; i < this.#words.length; i += 2) if (this.#words[i] !== 0) used += 1;
    return used;
  }

  #changeStamp(offset: number): Stamp {
    const at = this.#slot(offset) * 2;
    if (at < 0) return stampOf.unissued;
    for (;;) {
      const word = Atomics.load(this.#words, at);
      const seconds = Atomics.load(this.#words, at + 1);
      // Each change has another version: the same word twice means that the time between them is its own.
      if (Atomics.load(this.#words, at) === word) return (word >>> stateShift) * 2 ** 32 + seconds;
    }
  }

  /** Where an offset's entry is, or the free place where it would be; -1 in a table without room. */
  #slot(offset: number): number {
    const words = this.#words;
    const capacity = words.length >>> 1;
    let slot = Math.floor(((Math.imul(offset + 1, 0x9e3779b1) >>> 0) / 2 ** 32) * capacity);
    for (let probes = 0; probes < capacity; probes++) {
      const word = words[slot * 2] ?? 0;
      if (word === 0 || (word & offsetMask) === offset) return slot;
      slot = slot + 1 === capacity ? 0 : slot + 1;
    }
    return -1;
  }
}

const classesIn = ({ classes }: SegmentMemory): readonly (Uint32Array | undefined)[] =>
  classes.map((part) => part && new Uint32Array(part));

/** What a class's restriction makes of a certificate's own stamp: see `effectiveStatus`. */
function restrictedStamp(own: Stamp, { state, reason, seconds, generation }: Restricted): Stamp {
  const { state: ownState, version, revokedMs } = readStamp(own) as Change;
  if (ownState === 'revoked') return own;
  if (state === 'none') return own + generation * generationUnit;
  const since = revokedMs === null ? seconds : Math.min(seconds, revokedMs / 1000);
  const word = states.indexOf(state) + 1 + reason * 4 + Math.min(version, versionMax) * 32;
  return generation * generationUnit + word * 2 ** 32 + since;
}

/** What a stamp says. Version 1 stands for whatever has never changed. */
export function readStamp(withGeneration: Stamp): Change | 'unissued' | 'retired' {
  const stamp = withGeneration % generationUnit;
  if (stamp === stampOf.good) return { state: 'good', version: 1, revokedMs: null, reason: null };
  if (stamp === stampOf.retired) return 'retired';
  const word = Math.floor(stamp / 2 ** 32);
  const state = states[(word & 3) - 1];
  if (state === undefined) return 'unissued';
  return {
    state,
    version: word >>> 5,
    revokedMs: state === 'good' ? null : (stamp % 2 ** 32) * 1000,
    reason: reasons[(word >>> 2) & 7] ?? null,
  };
}
