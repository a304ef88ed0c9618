// A ribbon filter: for a set of keys, a table of bits from which each key's value is read again (P. C. Dillinger, S. Walzer: Ribbon filter:
// practically smaller than Bloom and Xor, 2021). A key is a row of a linear system over GF(2): ones within a band of 128 columns from a
// start on, and a value on the right side. The solution of the system is the table; for other keys it gives any value.
//
// Keys are three words of 32 bits that are random already: serial numbers are encrypted positions.

/** Columns of a band. */
const band = 128;
const wordBits = 32;
/** Words that a band may touch. */
const wordsOfBand = band / wordBits + 1;

/** Columns that are added to so many keys at first, and with each seed that failed further. */
const firstSlack = 1.02;
const moreSlack = 0.005;
const seedsMax = 200;

/** One table: so many columns of bits, each of as many rows. */
export interface Table {
  readonly rows: number;
  readonly seed: number;
  /** Bits of each column, one column behind the other, each of whole words. */
  readonly words: Uint32Array;
}

/** Words of one column. */
export const columnWords = (rows: number): number => Math.ceil(rows / wordBits);

/** Mixes a word well (finalizer of MurmurHash3). */
function mix(word: number): number {
  let z = word;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}

/** `floor(word / 2^32 × range)`, for ranges below 2^21. */
export const scaled = (word: number, range: number): number => Math.floor((word * range) / 2 ** wordBits);

/** The row of a key: where its band begins, and the ones in it. One object serves all keys, so that nothing is allocated. */
export class Row {
  start = 0;
  a = 0;
  b = 0;
  c = 0;
  d = 0;

  set(k1: number, k2: number, k3: number, seed: number, rows: number): void {
    const salt = Math.imul(seed + 1, 0x9e3779b1);
    this.start = scaled(mix(k1 ^ salt), rows - band + 1);
    // The first is always one: a row without ones says nothing.
    this.a = (mix(k2 ^ salt) | 1) >>> 0;
    this.b = mix(k3 ^ salt);
    this.c = mix((k1 + Math.imul(k2, 0x2545f491) + salt) | 0);
    this.d = mix((k2 ^ Math.imul(k3, 0x27d4eb2f) ^ Math.imul(salt, 3)) | 0);
  }
}

/** Whether so many ones are odd. */
function parity(word: number): number {
  let z = word ^ (word >>> 16);
  z ^= z >>> 8;
  z ^= z >>> 4;
  return (0x6996 >>> (z & 15)) & 1;
}

/** The bit of one column for a row. */
export function bitOf(words: Uint32Array, from: number, { start, a, b, c, d }: Row): number {
  const at = from + (start >>> 5);
  const shift = start & 31;
  const w0 = words[at] ?? 0;
  const w1 = words[at + 1] ?? 0;
  const w2 = words[at + 2] ?? 0;
  const w3 = words[at + 3] ?? 0;
  if (shift === 0) return parity((w0 & a) ^ (w1 & b) ^ (w2 & c) ^ (w3 & d));
  const w4 = words[at + 4] ?? 0;
  const rest = 32 - shift;
  const x0 = (w0 >>> shift) | (w1 << rest);
  const x1 = (w1 >>> shift) | (w2 << rest);
  const x2 = (w2 >>> shift) | (w3 << rest);
  const x3 = (w3 >>> shift) | (w4 << rest);
  return parity((x0 & a) ^ (x1 & b) ^ (x2 & c) ^ (x3 & d));
}

/**
 * The table for `count` keys, three words each, and their values of `columns` bits. Throws where no seed has a solution: where a key is
 * there twice, with two values.
 */
export function solve(
  keys: Uint32Array,
  values: Uint32Array,
  count: number,
  columns: number,
  salt = 0,
): Table {
  if (count === 0 || columns === 0) return { rows: 0, seed: 0, words: new Uint32Array(0) };
  for (let seed = 0; seed < seedsMax; seed += 1) {
    const slack = firstSlack + Math.floor(seed / 2) * moreSlack;
    const rows = Math.max(band, Math.ceil(count * slack)) + (count < band * 8 ? band / 4 : 0);
    const system = eliminate(keys, values, count, rows, salt + seed);
    if (system) return { rows, seed, words: substitute(system, rows, columns) };
  }
  throw new RangeError('a ribbon has no solution: a key is there twice, with two values');
}

interface System {
  /** Four words a row; a row that is empty begins with an even word. */
  readonly bands: Uint32Array;
  readonly right: Uint32Array;
}

/** Gaussian elimination as the keys come; undefined where two of them contradict each other. */
function eliminate(
  keys: Uint32Array,
  values: Uint32Array,
  count: number,
  rows: number,
  seed: number,
): System | undefined {
  const bands = new Uint32Array(rows * 4);
  const right = new Uint32Array(rows);
  const row = new Row();
  for (let i = 0; i < count; i += 1) {
    row.set(keys[i * 3] ?? 0, keys[i * 3 + 1] ?? 0, keys[i * 3 + 2] ?? 0, seed, rows);
    if (!insert(bands, right, row, values[i] ?? 0)) return undefined;
  }
  return { bands, right };
}

function insert(bands: Uint32Array, right: Uint32Array, row: Row, value: number): boolean {
  let { start, a, b, c, d } = row;
  let said = value;
  for (;;) {
    const at = start * 4;
    const first = bands[at] ?? 0;
    if ((first & 1) === 0) {
      bands[at] = a;
      bands[at + 1] = b;
      bands[at + 2] = c;
      bands[at + 3] = d;
      right[start] = said;
      return true;
    }
    a = (a ^ first) >>> 0;
    b = (b ^ (bands[at + 1] ?? 0)) >>> 0;
    c = (c ^ (bands[at + 2] ?? 0)) >>> 0;
    d = (d ^ (bands[at + 3] ?? 0)) >>> 0;
    said = (said ^ (right[start] ?? 0)) >>> 0;
    while (a === 0) {
      if ((b | c | d) === 0) return said === 0;
      a = b;
      b = c;
      c = d;
      d = 0;
      start += wordBits;
    }
    const zeros = 31 - Math.clz32(a & -a);
    if (zeros > 0) {
      const rest = wordBits - zeros;
      a = ((a >>> zeros) | (b << rest)) >>> 0;
      b = ((b >>> zeros) | (c << rest)) >>> 0;
      c = ((c >>> zeros) | (d << rest)) >>> 0;
      d >>>= zeros;
      start += zeros;
    }
  }
}

/** Back substitution, from the last row on; rows that say nothing are zero. */
function substitute({ bands, right }: System, rows: number, columns: number): Uint32Array {
  const length = columnWords(rows);
  const words = new Uint32Array(length * columns);
  for (let column = 0; column < columns; column += 1) {
    // The 128 bits behind the row, the next one first.
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let i = rows - 1; i >= 0; i -= 1) {
      const at = i * 4;
      const a = bands[at] ?? 0;
      // Where the row itself stands is a zero yet.
      s3 = (s3 << 1) | (s2 >>> 31);
      s2 = (s2 << 1) | (s1 >>> 31);
      s1 = (s1 << 1) | (s0 >>> 31);
      s0 <<= 1;
      if ((a & 1) === 0) continue;
      const known =
        (s0 & a) ^ (s1 & (bands[at + 1] ?? 0)) ^ (s2 & (bands[at + 2] ?? 0)) ^ (s3 & (bands[at + 3] ?? 0));
      const bit = parity(known) ^ (((right[i] ?? 0) >>> column) & 1);
      s0 |= bit;
      if (bit === 1) {
        const word = column * length + (i >>> 5);
        words[word] = ((words[word] ?? 0) | (1 << (i & 31))) >>> 0;
      }
    }
  }
  return words;
}

/** Words behind a table that `bitOf` may read. */
export const padding = wordsOfBand;
