import { hash, randomBytes } from 'node:crypto';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { ChainWalk, writersOf } from '../audit/chains.ts';
import { TableSums } from '../audit/digest-sum.ts';
import { AuditFailure, type AuditHead } from '../audit/finding.ts';
import type { Schema3Change } from '../audit/schema-3.ts';
import { auditedTables, rowsOf } from '../audit/table-rows.ts';
import { refuseCut } from '../audit/verify-audit.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import type { Row } from '../schema/schema.ts';

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
  const walk = new ChainWalk({ key: null, sums, checkpoints });
  const last = new LastDigests();
  for (const { changes } of inOrderOfTime(reader, walk))
    for (const [table, key, digest] of JSON.parse(changes) as Schema3Change[])
      last.set(JSON.stringify([table, key]), digest === null ? null : Buffer.from(digest, 'hex'));
  refuseCut(walk.heads, checkpoints);
  for (const table of auditedTables) {
    for (const row of rowsOf(reader, table)) {
      const name = JSON.stringify([table, keyValues(table, row)]);
      const digest = rowDigest(table, row);
      sums.add(table, digest);
      if (!last.take(name, digest))
        throw new AuditFailure('row', name, 'it is not as its last entry left it');
    }
  }
  if (last.size > 0)
    throw new AuditFailure('row', 'the record', `${last.size} rows that were written are gone`);
  return sums;
}

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

const nameOctets = 8;
const digestOctets = 16;
const slotOctets = nameOctets + digestOctets;
const fillMax = 0.6;

/** Digests by name, in one buffer: 24 octets a row, where a map of texts would take two hundred. */
class LastDigests {
  /** Names are hashed with it, so that no record can be made in which two of them collide. */
  readonly #salt = randomBytes(16).toString('hex');
  #capacity = 2 ** 16;
  #slots = Buffer.alloc(this.#capacity * slotOctets);
  #used = 0;
  /** Names that have a digest. */
  size = 0;

  set(name: string, digest: Bytes | null): void {
    if (this.#used > this.#capacity * fillMax) this.#grow();
    const at = this.#find(this.#hashOf(name), true);
    this.size += (digest ? 1 : 0) - (isSet(this.#digestAt(at)) ? 1 : 0);
    this.#digestAt(at).set(digest?.subarray(0, digestOctets) ?? none);
  }

  /** Whether that is the name's digest; then it has none any more. */
  take(name: string, digest: Bytes): boolean {
    const at = this.#find(this.#hashOf(name), false);
    if (at < 0 || !this.#digestAt(at).equals(digest.subarray(0, digestOctets))) return false;
    this.#digestAt(at).set(none);
    this.size -= 1;
    return true;
  }

  #hashOf(name: string): Buffer {
    return hash('sha256', this.#salt + name, 'buffer').subarray(0, nameOctets);
  }

  /** The place of a name, which is made where there is none and `isNew`; else -1. */
  #find(name: Buffer, isNew: boolean): number {
    for (let i = name.readUInt32LE(0) % this.#capacity; ; i = (i + 1) % this.#capacity) {
      const at = i * slotOctets;
      const slot = this.#slots.subarray(at, at + nameOctets);
      if (slot.equals(name)) return at;
      if (isSet(slot)) continue;
      if (!isNew) return -1;
      slot.set(name);
      this.#used += 1;
      return at;
    }
  }

  #digestAt(at: number): Buffer {
    return this.#slots.subarray(at + nameOctets, at + slotOctets);
  }

  #grow(): void {
    const before = this.#slots;
    this.#capacity *= 2;
    this.#slots = Buffer.alloc(this.#capacity * slotOctets);
    this.#used = 0;
    for (let at = 0; at < before.length; at += slotOctets) {
      const name = before.subarray(at, at + nameOctets);
      if (!isSet(name)) continue;
      this.#digestAt(this.#find(name, true)).set(before.subarray(at + nameOctets, at + slotOctets));
    }
  }
}

const none = Buffer.alloc(digestOctets);
const isSet = (octets: Buffer): boolean => octets.readUInt32LE(0) !== 0 || octets.readUInt32LE(4) !== 0;
