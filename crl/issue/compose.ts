import type { ParsedCrl } from '../../core/asn1/crl-reader.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { decodeBucket, gatherListed, type StoredEntry } from '../encode/bucket.ts';
import { encodeRemoval } from '../encode/encode.ts';
import {
  type EntryChanges,
  entriesOf,
  entryChanges,
  latestRevocation,
  serialName,
} from '../encode/entries.ts';

/** What is published of a shard, read back. */
export interface Predecessors {
  readonly complete: ParsedCrl | undefined;
  /** The last complete CRL that was issued by schedule: deltas go on from it. */
  readonly base: ParsedCrl | undefined;
  readonly delta: ParsedCrl | undefined;
}

/** Entries of a shard's next CRLs. */
export interface Composition {
  readonly complete: Bytes;
  readonly delta: readonly Bytes[];
  /** INTEGERs, hex, of certificates that are listed no more because they have ended, and have been shown to have been revoked. */
  readonly ended: ReadonlySet<string>;
  /** No revocationDate is later than this, or than a base that is not of the future; milliseconds since 1970. */
  readonly latestMs: number;
}

/**
 * Works out what a shard's CRLs list now: from what is remembered of its certificates, and from what has been published,
 * which is all that relying parties know.
 *
 * - A certificate stays listed until it has stood on one scheduled CRL after its end (RFC 5280 §3.3): on the base, if that
 *   is of a later time. It leaves with the next scheduled one, so that base and delta always make the complete list.
 * - A delta lists what differs from the base, takes back what the base lists and is no more to be listed, and says again,
 *   as it is now, all that a delta before it said: a hold that began after the base and is over, or one that the base lists,
 *   that was over meanwhile, and is in force again (§5.2.4).
 */
export function compose(
  buckets: readonly Bytes[],
  predecessors: Predecessors,
  { isScheduled, nowMs }: { readonly isScheduled: boolean; readonly nowMs: number },
): Composition {
  const { base } = predecessors;
  // A base of a time to come, by a clock that was ahead, shows no end.
  const endedBeforeMs = Math.min(base?.thisUpdateMs ?? 0, nowMs);
  const { entries, ended } = gatherListed(buckets, { nowMs, endedBeforeMs });
  if (!base) return { complete: entries, delta: [], ended: new Set(), latestMs: latestRevocation(entries) };
  const changes = entryChanges(base.entries, entries);
  const leaving = isScheduled ? withoutThose(entries, ended, changes.added) : [];
  const complete = leaving.length > 0 ? cut(entries, leaving) : entries;
  const left = leaving.map(({ start, end }) => entries.subarray(start, end));
  const removed = [...changes.removed, ...left];
  return {
    complete,
    delta: [
      ...changes.added,
      ...removed.map(encodeRemoval),
      ...sayAgain(saidSince(predecessors, base), base, [...changes.added, ...removed]),
    ],
    ended: new Set(left.map(serialName)),
    // What a base lists is no later than the base, which a clock that was ahead may have dated.
    latestMs:
      base.thisUpdateMs > nowMs ? latestRevocation(entries) : latestRevocation(Buffer.concat(changes.added)),
  };
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** Those of the spans that the base lists too, octet for octet. */
function withoutThose(entries: Bytes, spans: readonly Span[], added: EntryChanges['added']): Span[] {
  if (spans.length === 0 || added.length === 0) return [...spans];
  const starts = new Set(added.map((entry) => entry.byteOffset - entries.byteOffset));
  return spans.filter(({ start }) => !starts.has(start));
}

function cut(entries: Bytes, spans: readonly Span[]): Bytes {
  const out = Buffer.allocUnsafe(entries.length);
  let [from, length] = [0, 0];
  for (const { start, end } of [...spans, { start: entries.length, end: entries.length }]) {
    out.set(entries.subarray(from, start), length);
    length += start - from;
    from = end;
  }
  return out.subarray(0, length);
}

/** What has been said of certificates since the base: each delta to it repeats what those before it said. */
export function saidSince({ delta }: Predecessors, base: ParsedCrl): Bytes[] {
  return delta?.baseNumber === base.number ? entriesOf(delta.entries) : [];
}

/**
 * What was said since the base of certificates that are again as the base has them. Relying parties may combine a delta
 * with any complete CRL since its base (RFC 5280 §5.2.4), and one of these may have said otherwise.
 */
function sayAgain(said: readonly Bytes[], base: ParsedCrl, changed: readonly Bytes[]): Bytes[] {
  if (said.length === 0) return [];
  const now = new Set(changed.map(serialName));
  const left = new Map(
    said.filter((entry) => !now.has(serialName(entry))).map((entry) => [serialName(entry), entry]),
  );
  if (left.size === 0) return [];
  const listed = entriesOf(base.entries).filter((entry) => left.delete(serialName(entry)));
  return [...listed, ...[...left.values()].map(encodeRemoval)];
}

/** What is remembered of certificates, by their INTEGERs, hex: asked for a few of a shard, now and then. */
export function storedBySerial(buckets: readonly Bytes[]): Map<string, StoredEntry> {
  const found = new Map<string, StoredEntry>();
  for (const item of buckets.flatMap(decodeBucket)) {
    if (item.entry.length > 0) found.set(serialName(item.entry), item);
  }
  return found;
}
