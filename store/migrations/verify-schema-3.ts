import { hash, randomBytes } from 'node:crypto';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { ChainWalk, writersOf } from '../audit/chains.ts';
import { TableSums } from '../audit/digest-sum.ts';
import { AuditFailure, type AuditHead } from '../audit/finding.ts';
import type { Schema3Change } from '../audit/schema-3.ts';
import { auditedTables, rowsOf } from '../audit/table-rows.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import type { Row, TableName } from '../schema/schema.ts';

// The rules of schema 3: entries are chained by hash, and each row is as the last entry about it says.

/**
 * Sums up the rows of each table with `key`. Throws `AuditFailure` with the first thing that is wrong. `checkpoints`: heads that were
 * signed.
 */
export function verifySchema3(
  reader: RecordReader,
  { key: auditKey, checkpoints }: { readonly key: AuditKey; readonly checkpoints: readonly AuditHead[] },
): TableSums {
  const sums = new TableSums(auditKey);
  // The links alone: entries of schema 3 do not say how a row had been, so that they add nothing to the sums.
  const walk = new ChainWalk({ key: null, checkpoints });
  const last = new LastDigests();
  for (const { changes } of inOrderOfTime(reader, walk))
    for (const [table, key, digest] of JSON.parse(changes) as Schema3Change[])
      last.set(nameOf(table, key), digest === null ? null : Buffer.from(digest, 'hex'));
  walk.refuseCut();
  for (const table of auditedTables) {
    for (const row of rowsOf(reader, table)) {
      const key = keyValues(table, row);
      const digest = rowDigest(table, row);
      sums.add(table, digest);
      if (!last.take(nameOf(table, key), digest))
        throw new AuditFailure('row', JSON.stringify([table, key]), 'it is not as its last entry left it');
    }
  }
  if (last.size > 0)
    throw new AuditFailure('row', 'the record', `${last.size} rows that were written are gone`);
  return sums;
}

/** The record keeps no text with a NUL. */
const nameOf = (table: TableName, key: readonly (string | number)[]): string => `${table}\0${key.join('\0')}`;

/** Entries of all writers in order of time: their writing never overlapped. Each is verified as it comes. */
function* inOrderOfTime(reader: RecordReader, walk: ChainWalk): Iterable<Row<'auditOfSchema3'>> {
  const chains = writersOf(reader).map((writer) => {
    const entries = walk.ofSchema3(reader, writer)[Symbol.iterator]();
    return { entries, next: entries.next() };
  });
  for (;;) {
    const waiting = chains.filter(({ next }) => !next.done);
    const [first] = waiting.sort((a, b) => (a.next.value?.atMs ?? 0) - (b.next.value?.atMs ?? 0));
    if (!first) return;
    yield first.next.value as Row<'auditOfSchema3'>;
    first.next = first.entries.next();
  }
}

/** Words of 32 bits that a slot has: of a hash of the row's name, then of the digest as entries hold it. */
const nameWords = 2;
const digestWords = 4;
const slotWords = nameWords + digestWords;
const fillMax = 0.6;

/** Digests by name, in one array: 24 octets a row, where a map of texts would take two hundred. */
class LastDigests {
  /** Names are hashed with it, so that no record can be made in which two of them collide. */
  readonly #salt = randomBytes(16).toString('hex');
  #capacity = 2 ** 16;
  #slots = new Uint32Array(this.#capacity * slotWords);
  #used = 0;
  /** Names that have a digest. */
  size = 0;

  set(name: string, digest: Bytes | null): void {
    if (this.#used > this.#capacity * fillMax) this.#grow();
    const [high, low] = this.#hashOf(name);
    const at = this.#find(high, low, true) + nameWords;
    this.size += (digest ? 1 : 0) - (this.#isSet(at) ? 1 : 0);
    for (let i = 0; i < digestWords; i++) this.#slots[at + i] = digest ? wordAt(digest, i) : 0;
  }

  /** Whether that is the name's digest; then it has none any more. */
  take(name: string, digest: Bytes): boolean {
    const [high, low] = this.#hashOf(name);
    const slot = this.#find(high, low, false);
    if (slot < 0) return false;
    const at = slot + nameWords;
    for (let i = 0; i < digestWords; i++) if (this.#slots[at + i] !== wordAt(digest, i)) return false;
    this.#slots.fill(0, at, at + digestWords);
    this.size -= 1;
    return true;
  }

  #hashOf(name: string): readonly [high: number, low: number] {
    const octets = hash('sha256', this.#salt + name, 'binary');
    return [wordOf(octets, 0), wordOf(octets, 4)];
  }

  /** The place of a name, which is made where there is none and `isNew`; else -1. */
  #find(high: number, low: number, isNew: boolean): number {
    for (let i = high % this.#capacity; ; i = (i + 1) % this.#capacity) {
      const at = i * slotWords;
      if (this.#slots[at] === high && this.#slots[at + 1] === low) return at;
      if (this.#isSet(at)) continue;
      if (!isNew) return -1;
      this.#slots[at] = high;
      this.#slots[at + 1] = low;
      this.#used += 1;
      return at;
    }
  }

  #isSet(at: number): boolean {
    return this.#slots[at] !== 0 || this.#slots[at + 1] !== 0;
  }

  #grow(): void {
    const before = this.#slots;
    this.#capacity *= 2;
    this.#slots = new Uint32Array(this.#capacity * slotWords);
    this.#used = 0;
    for (let from = 0; from < before.length; from += slotWords) {
      const [high = 0, low = 0] = before.subarray(from, from + nameWords);
      if (high === 0 && low === 0) continue;
      const at = this.#find(high, low, true);
      this.#slots.set(before.subarray(from + nameWords, from + slotWords), at + nameWords);
    }
  }
}

/** Four octets of a text of octets. */
const wordOf = (octets: string, at: number): number =>
  (octets.charCodeAt(at) |
    (octets.charCodeAt(at + 1) << 8) |
    (octets.charCodeAt(at + 2) << 16) |
    (octets.charCodeAt(at + 3) << 24)) >>>
  0;

const wordAt = (digest: Bytes, i: number): number =>
  ((digest[4 * i] as number) |
    ((digest[4 * i + 1] as number) << 8) |
    ((digest[4 * i + 2] as number) << 16) |
    ((digest[4 * i + 3] as number) << 24)) >>>
  0;
