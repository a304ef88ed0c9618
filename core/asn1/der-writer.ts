// DER encoding (ITU-T X.690 §10–11) of what this project emits. Functions build octets bottom up; what does not
// change between messages is encoded once by the caller and spliced.
import type { Bytes } from '../runtime/bytes.ts';

export const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[n]` of class context-specific; constructed unless it replaces the tag of a primitive type. */
export function context(n: number, form: 'constructed' | 'primitive' = 'constructed'): number {
  return (form === 'constructed' ? 0xa0 : 0x80) | n;
}

/** Octets that the tag and length of a value with `length` content octets take. */
export function headerLength(length: number): number {
  return length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x1_0000 ? 4 : length < 0x100_0000 ? 5 : 6;
}

/** Writes tag and length at `offset`, returns the offset behind them. */
export function writeHeader(out: Bytes, offset: number, tagOctet: number, length: number): number {
  let at = offset;
  out[at++] = tagOctet;
  if (length < 0x80) {
    out[at++] = length;
    return at;
  }
  const octets = headerLength(length) - 2;
  out[at++] = 0x80 | octets;
  for (let shift = (octets - 1) * 8; shift >= 0; shift -= 8) out[at++] = (length >>> shift) & 0xff;
  return at;
}

export function tlv(tagOctet: number, ...contents: readonly Bytes[]): Bytes {
  let length = 0;
  for (const content of contents) length += content.length;
  // Out of Node's pool: memory of its own costs more than what is written into it.
  const out = Buffer.allocUnsafe(headerLength(length) + length);
  let at = writeHeader(out, 0, tagOctet, length);
  for (const content of contents) {
    out.set(content, at);
    at += content.length;
  }
  return out;
}

export const sequence = (...contents: readonly Bytes[]): Bytes => tlv(tag.sequence, ...contents);
export const explicit = (n: number, content: Bytes): Bytes => tlv(context(n), content);
export const octetString = (content: Bytes): Bytes => tlv(tag.octetString, content);
export const utf8String = (text: string): Bytes => tlv(tag.utf8String, Buffer.from(text, 'utf8'));
export const printableString = (text: string): Bytes => tlv(tag.printableString, Buffer.from(text, 'latin1'));
export const nullValue: Bytes = tlv(tag.null);
export const booleanTrue: Bytes = tlv(tag.boolean, Uint8Array.of(0xff));

/** A non-negative INTEGER from big-endian octets; leading zeros are dropped or added as DER demands (§8.3). */
export function unsignedInteger(octets: Bytes): Bytes {
  let start = 0;
  while (start < octets.length - 1 && octets[start] === 0) start++;
  const trimmed = octets.subarray(start);
  const negative = ((trimmed[0] ?? 0) & 0x80) !== 0;
  return negative || trimmed.length === 0
    ? tlv(tag.integer, Uint8Array.of(0), trimmed)
    : tlv(tag.integer, trimmed);
}

/** A non-negative safe integer. */
export function integer(value: number): Bytes {
  const octets = Buffer.alloc(8);
  octets.writeBigUInt64BE(BigInt(value));
  return unsignedInteger(octets);
}

export function enumerated(value: number): Bytes {
  return tlv(tag.enumerated, Uint8Array.of(value));
}

/** A BIT STRING of whole octets. */
export function bitString(octets: Bytes): Bytes {
  return tlv(tag.bitString, Uint8Array.of(0), octets);
}

/** A NamedBitList (X.690 §11.2.2): the numbered bits set, trailing zero bits dropped. At most 16 bits. */
export function namedBits(...bits: readonly number[]): Bytes {
  if (bits.length === 0) return tlv(tag.bitString, Uint8Array.of(0));
  const highest = Math.max(...bits);
  const octets = new Uint8Array((highest >> 3) + 1);
  for (const bit of bits) octets[bit >> 3] = (octets[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return tlv(tag.bitString, Uint8Array.of(7 - (highest & 7)), octets);
}

/** Encodings of those that were asked for: profiles and names ask for the same few. */
const encodedIdentifiers = new Map<string, Bytes>();
const encodedIdentifiersMax = 500;

export function objectIdentifier(dotted: string): Bytes {
  const known = encodedIdentifiers.get(dotted);
  if (known) return known;
  const encoded = encodeIdentifier(dotted);
  if (encodedIdentifiers.size < encodedIdentifiersMax) encodedIdentifiers.set(dotted, encoded);
  return encoded;
}

function encodeIdentifier(dotted: string): Bytes {
  const arcs = dotted.split('.').map(BigInt);
  const [first, second] = arcs;
  if (first === undefined || second === undefined || first > 2n || (first < 2n && second > 39n)) {
    throw new RangeError(`not an object identifier: ${dotted}`);
  }
  const octets: number[] = [];
  for (const arc of [first * 40n + second, ...arcs.slice(2)]) {
    const base128: number[] = [Number(arc & 0x7fn)];
    for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) base128.unshift(Number(rest & 0x7fn) | 0x80);
    octets.push(...base128);
  }
  return tlv(tag.oid, Uint8Array.from(octets));
}

const pad = (value: number, digits: number): string => String(value).padStart(digits, '0');

/** `YYYYMMDDHHMMSSZ`, seconds always, fractions never (RFC 5280 §4.1.2.5.2, RFC 6960 §4.2.2.1). */
export function generalizedTime(ms: number): Bytes {
  return tlv(
    tag.generalizedTime,
    Buffer.from(`${pad(new Date(ms).getUTCFullYear(), 4)}${monthToSecond(ms)}`, 'latin1'),
  );
}

/** UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5). */
export function time(ms: number): Bytes {
  const year = new Date(ms).getUTCFullYear();
  if (year >= 2050 || year < 1950) return generalizedTime(ms);
  return tlv(tag.utcTime, Buffer.from(`${pad(year % 100, 2)}${monthToSecond(ms)}`, 'latin1'));
}

function monthToSecond(ms: number): string {
  const date = new Date(ms);
  return [
    date.getUTCMonth() + 1,
    date.getUTCDate(),
    date.getUTCHours(),
    date.getUTCMinutes(),
    date.getUTCSeconds(),
  ]
    .map((part) => pad(part, 2))
    .join('')
    .concat('Z');
}
