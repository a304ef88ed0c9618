import { createCipheriv } from 'node:crypto';
import type { Shard } from './filter.ts';
import { fingerprint, levels } from './filter.ts';
import { bitOf, columnWords, padding, Row, scaled, solve, type Table } from './ribbon.ts';

// Makes the tables of some shards of a filter. Positions are turned into serial numbers by the thousand; of all others nothing is kept.

/** A run of positions of one epoch, with a bit for each that says whether it is revoked or held. */
export interface Run {
  /** AES key of the epoch, 16 octets. */
  readonly key: Uint8Array;
  readonly first: number;
  readonly count: number;
  /** Bit `i & 7` of octet `i >> 3`. */
  readonly revoked: Uint8Array;
}

/** The same, with whose positions they are. */
export interface RevokedRun extends Run {
  readonly authority: string;
  readonly epoch: number;
}

export interface BuildOptions {
  readonly runs: readonly Run[];
  readonly shards: number;
  readonly columns: number;
  /** Shards of this part are those whose number leaves this remainder. */
  readonly part: number;
  readonly parts: number;
}

export type BuiltShard = Shard & { readonly words: readonly [Uint32Array, Uint32Array] };

/** Keys of a shard for which two tables are a good size: little is lost at their ends, and a seed is soon found. */
const keysOfShard = 16_384;
const blocksAtOnce = 16_384;
const blockOctets = 16;

/** Shards and columns for so many certificates of which so many are revoked: those with which the file is smallest. */
export function planOf(total: number, revoked: number): Pick<BuildOptions, 'shards' | 'columns'> {
  const others = total - revoked;
  const bits = (columns: number): number => columns * revoked + revoked + others / 2 ** columns;
  let columns = 0;
  while (columns < 24 && bits(columns + 1) < bits(columns)) columns += 1;
  const inSecond = revoked + others / 2 ** columns;
  return { columns, shards: Math.max(1, Math.ceil(inSecond / (2 * keysOfShard))) };
}

/** Keys of one shard, three words each, and a value for each. */
class KeyList {
  keys: Uint32Array;
  values: Uint32Array;
  count = 0;

  constructor(capacity: number) {
    this.keys = new Uint32Array(capacity * 3);
    this.values = new Uint32Array(capacity);
  }

  add(k1: number, k2: number, k3: number, value: number): void {
    if (this.count === this.values.length) this.#grow();
    const at = this.count * 3;
    this.keys[at] = k1;
    this.keys[at + 1] = k2;
    this.keys[at + 2] = k3;
    this.values[this.count] = value;
    this.count += 1;
  }

  #grow(): void {
    const capacity = Math.ceil(this.values.length * 1.25) + 64;
    const [keys, values] = [new Uint32Array(capacity * 3), new Uint32Array(capacity)];
    keys.set(this.keys);
    values.set(this.values);
    this.keys = keys;
    this.values = values;
  }
}

type Visit = (k0: number, k1: number, k2: number, k3: number, isRevoked: boolean) => void;

/** Visits each position's key; `only`: those that are revoked. */
function visit({ key, first, count, revoked }: Run, only: boolean, to: Visit): void {
  const cipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false);
  const plain = Buffer.alloc(blocksAtOnce * blockOctets);
  const offsets = new Uint32Array(blocksAtOnce);
  let filled = 0;
  const flush = (): void => {
    const sealed = cipher.update(plain.subarray(0, filled * blockOctets));
    const words = new DataView(sealed.buffer, sealed.byteOffset, sealed.length);
    for (let i = 0; i < filled; i += 1) {
      const at = i * blockOctets;
      const offset = offsets[i] ?? 0;
      const isRevoked = (((revoked[offset >>> 3] ?? 0) >>> (offset & 7)) & 1) === 1;
      to(
        words.getUint32(at, true),
        words.getUint32(at + 4, true),
        words.getUint32(at + 8, true),
        words.getUint32(at + 12, true),
        isRevoked,
      );
    }
    filled = 0;
  };
  for (let offset = 0; offset < count; offset += 1) {
    if (only && (((revoked[offset >>> 3] ?? 0) >>> (offset & 7)) & 1) === 0) continue;
    const position = first + offset;
    const at = filled * blockOctets + 10;
    plain.writeUInt16BE(Math.floor(position / 2 ** 32), at);
    plain.writeUInt32BE(position >>> 0, at + 2);
    offsets[filled] = offset;
    filled += 1;
    if (filled === blocksAtOnce) flush();
  }
  if (filled > 0) flush();
}

/** The shards of a part, in order of their numbers. */
export function buildShards({ runs, shards, columns, part, parts }: BuildOptions): BuiltShard[] {
  const own = Math.ceil((shards - part) / parts);
  const lists = (): KeyList[] => Array.from({ length: own }, () => new KeyList(64));
  const revoked = lists();
  for (const run of runs)
    visit(run, true, (k0, k1, k2, k3) => {
      const shard = scaled(k0, shards);
      if (shard % parts !== part) return;
      revoked[(shard - part) / parts]?.add(k1, k2, k3, fingerprint(k1, k2, k3, columns));
    });
  const first = revoked.map(({ keys, values, count }) => solve(keys, values, count, columns, levels.first));
  const asked = first.map(padded);
  const possible = lists();
  const row = new Row();
  for (const run of runs)
    visit(run, false, (k0, k1, k2, k3, isRevoked) => {
      const shard = scaled(k0, shards);
      if (shard % parts !== part) return;
      const at = (shard - part) / parts;
      const table = asked[at];
      if (!table || revoked[at]?.count === 0) return;
      if (isRevoked || mayBeRevoked(table, row, columns, k1, k2, k3))
        possible[at]?.add(k1, k2, k3, isRevoked ? 1 : 0);
    });
  return possible.map(({ keys, values, count }, i) => {
    const before = first[i] as Table;
    const second = solve(keys, values, count, 1, levels.second);
    return {
      seeds: [before.seed, second.seed],
      rows: [before.rows, second.rows],
      words: [before.words, second.words],
    } as const;
  });
}

const padded = (table: Table): Table => {
  const words = new Uint32Array(table.words.length + padding);
  words.set(table.words);
  return { ...table, words };
};

function mayBeRevoked(
  { rows, seed, words }: Table,
  row: Row,
  columns: number,
  k1: number,
  k2: number,
  k3: number,
): boolean {
  if (columns === 0) return true;
  row.set(k1, k2, k3, levels.first + seed, rows);
  const wanted = fingerprint(k1, k2, k3, columns);
  const length = columnWords(rows);
  for (let column = 0, at = 0; column < columns; column += 1, at += length)
    if (bitOf(words, at, row) !== ((wanted >>> column) & 1)) return false;
  return true;
}
