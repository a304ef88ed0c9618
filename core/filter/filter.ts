import { bitOf, columnWords, padding, Row, scaled } from './ribbon.ts';

// A revocation filter: which of all certificates of a CA are revoked or held, and no false answer for any of them (J. M. Schanck: Clubcards for the
// WebPKI, 2025). Two tables: the first says of every revoked one, and of a few others, that it may be revoked; the second is right
// about each of those. Both are cut into shards by the serial number, so that they can be made side by side.

/** What a filter says of itself, besides its tables. */
export interface FilterHead {
  readonly type: 'base' | 'delta';
  /** Of which certificates. */
  readonly kind: 'signing' | 'authentication';
  /** Grows with each file of a kind. */
  readonly sequence: number;
  /** When all that it says was known to be right, RFC 3339. */
  readonly knownAt: string;
  /** It speaks of certificates whose notBefore is no later. */
  readonly covers: string;
  /** Until when it may be believed. */
  readonly believeUntil: string;
  /** Subject key identifiers of the authorities whose certificates it speaks of, hex. */
  readonly authorities: readonly string[];
  /** Of a delta: sequence of its base. */
  readonly base: number | null;
  /** Of a base: columns of the first tables, and how many shards. */
  readonly columns: number;
  readonly shards: number;
}

/** Two tables of one shard. */
export interface Shard {
  readonly seeds: readonly [number, number];
  readonly rows: readonly [number, number];
}

const magic = Buffer.from('WARIFU REVOCATION FILTER 1\n');
const shardOctets = 10;
const blockOctets = 16;
/** Octets of a serial number that a delta names. */
export const deltaKeyOctets = 12;

/** Salt of the second tables, so that both are independent. */
export const levels = { first: 0, second: 1000 } as const;

/** What the first table has for a revoked key. */
export const fingerprint = (k1: number, k2: number, k3: number, columns: number): number => {
  let z = (Math.imul(k1, 0x9e3779b1) ^ Math.imul(k2, 0x85ebca77) ^ Math.imul(k3, 0xc2b2ae3d)) | 0;
  z = Math.imul(z ^ (z >>> 15), 0x2c1b3c6d);
  return ((z ^ (z >>> 13)) >>> 0) & (2 ** columns - 1);
};

/** The key of a serial number: its last 16 octets, as four little-endian words. */
export const wordsOf = (serial: Uint8Array): readonly [number, number, number, number] => {
  const view = new DataView(serial.buffer, serial.byteOffset + serial.length - blockOctets, blockOctets);
  return [0, 4, 8, 12].map((at) => view.getUint32(at, true)) as [number, number, number, number];
};

export class FilterError extends Error {
  override name = 'FilterError';
}

const fail = (what: string): never => {
  throw new FilterError(what);
};

/** A file taken apart; nothing of it is believed before the signature is verified. */
export interface FilterFile {
  readonly head: FilterHead;
  readonly body: Uint8Array;
  /** What is signed, and the signature (ECDSA-Sig-Value). */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

/** magic ‖ length of the head (4) ‖ head, JSON ‖ length of the body (4) ‖ body: what is signed; lengths are big-endian. */
export function encodeSigned(head: FilterHead, body: Uint8Array): Buffer {
  const text = Buffer.from(JSON.stringify(head));
  const lengths = [text.length, body.length].map((length) => {
    const octets = Buffer.alloc(4);
    octets.writeUInt32BE(length);
    return octets;
  });
  return Buffer.concat([magic, lengths[0] as Buffer, text, lengths[1] as Buffer, body]);
}

/** Takes a file apart. Throws `FilterError` where it is none, or is cut short. */
export function decodeFilter(file: Uint8Array): FilterFile {
  const octets = Buffer.from(file.buffer, file.byteOffset, file.length);
  if (!octets.subarray(0, magic.length).equals(magic)) fail('the file is no revocation filter of version 1');
  const lengthAt = (at: number): number =>
    at + 4 <= octets.length ? octets.readUInt32BE(at) : fail('the file is cut short');
  const headAt = magic.length + 4;
  const bodyAt = headAt + lengthAt(magic.length) + 4;
  const end = bodyAt + lengthAt(bodyAt - 4);
  if (end >= octets.length) fail('the file is cut short');
  const head = headIn(octets.toString('utf8', headAt, bodyAt - 4));
  return {
    head,
    body: octets.subarray(bodyAt, end),
    signed: octets.subarray(0, end),
    signature: octets.subarray(end),
  };
}

function headIn(text: string): FilterHead {
  try {
    return JSON.parse(text) as FilterHead;
  } catch {
    return fail('the head of the file is no JSON');
  }
}

/** All shards of a base: for each seeds (1 ‖ 1) and rows (4 ‖ 4, big-endian), then the words of both tables, little-endian. */
export function encodeShards(
  shards: readonly (Shard & { readonly words: readonly [Uint32Array, Uint32Array] })[],
): Buffer {
  const heads = Buffer.alloc(shards.length * shardOctets);
  for (const [i, { seeds, rows }] of shards.entries()) {
    const at = i * shardOctets;
    heads[at] = seeds[0];
    heads[at + 1] = seeds[1];
    heads.writeUInt32BE(rows[0], at + 2);
    heads.writeUInt32BE(rows[1], at + 6);
  }
  const words = shards.flatMap(({ words: [first, second] }) => [octetsOf(first), octetsOf(second)]);
  return Buffer.concat([heads, ...words]);
}

const octetsOf = (words: Uint32Array): Buffer => {
  const out = Buffer.alloc(words.length * 4);
  for (const [i, word] of words.entries()) out.writeUInt32LE(word, i * 4);
  return out;
};

/** The tables of a base, ready to be asked. */
export class FilterTables {
  readonly #head: FilterHead;
  readonly #seeds: Uint8Array;
  readonly #rows: Uint32Array;
  /** Where the words of each table begin. */
  readonly #at: Uint32Array;
  readonly #words: Uint32Array;
  readonly #row = new Row();

  /** Throws `FilterError` where the body is not as long as its tables are. */
  constructor(head: FilterHead, body: Uint8Array) {
    this.#head = head;
    const { shards, columns } = head;
    if (!Number.isInteger(shards) || shards < 1 || shards > 2 ** 20) fail('the file has no shards');
    if (!Number.isInteger(columns) || columns < 0 || columns > 24) fail('the file has no columns');
    const octets = Buffer.from(body.buffer, body.byteOffset, body.length);
    const headOctets = shards * shardOctets;
    if (octets.length < headOctets) fail('the file is cut short');
    this.#seeds = new Uint8Array(shards * 2);
    this.#rows = new Uint32Array(shards * 2);
    this.#at = new Uint32Array(shards * 2);
    let total = 0;
    for (let i = 0; i < shards * 2; i += 1) {
      const at = Math.floor(i / 2) * shardOctets;
      this.#seeds[i] = octets[at + (i % 2)] ?? 0;
      const rows = octets.readUInt32BE(at + 2 + (i % 2) * 4);
      this.#rows[i] = rows;
      this.#at[i] = total;
      total += columnWords(rows) * (i % 2 === 0 ? columns : 1);
      if (total * 4 > octets.length) fail('the file is cut short');
    }
    if (headOctets + total * 4 !== octets.length) fail('the file is not as long as its tables');
    this.#words = new Uint32Array(total + padding);
    for (let i = 0; i < total; i += 1) this.#words[i] = octets.readUInt32LE(headOctets + i * 4);
  }

  /** Whether a certificate that it covers is revoked or held. `serial`: octets of the serial number. */
  isRevoked(serial: Uint8Array): boolean {
    const [k0, k1, k2, k3] = wordsOf(serial);
    const { columns, shards } = this.#head;
    const shard = scaled(k0, shards);
    const first = this.#rows[shard * 2] ?? 0;
    // Nothing of this shard is revoked.
    if (this.#rows[shard * 2 + 1] === 0) return false;
    if (columns > 0) {
      this.#row.set(k1, k2, k3, levels.first + (this.#seeds[shard * 2] ?? 0), first);
      const wanted = fingerprint(k1, k2, k3, columns);
      const length = columnWords(first);
      let at = this.#at[shard * 2] ?? 0;
      for (let column = 0; column < columns; column += 1, at += length)
        if (bitOf(this.#words, at, this.#row) !== ((wanted >>> column) & 1)) return false;
    }
    const second = this.#rows[shard * 2 + 1] ?? 0;
    this.#row.set(k1, k2, k3, levels.second + (this.#seeds[shard * 2 + 1] ?? 0), second);
    return bitOf(this.#words, this.#at[shard * 2 + 1] ?? 0, this.#row) === 1;
  }
}
