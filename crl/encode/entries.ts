import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import { tag } from '../../core/asn1/der-writer.ts';
import { type Bytes, equal, hex, view } from '../../core/runtime/bytes.ts';

// Lists of CRL entries as octets: one SEQUENCE { userCertificate INTEGER, revocationDate, … } behind the other, the
// content of revokedCertificates (RFC 5280 §5.1). A nation has millions of them: nothing here makes an object of one that
// has not changed.

/** Where the entry that begins there ends. Throws `DerError` where none does. */
export function entryEnd(list: Bytes, at: number): number {
  const first = list[at + 1] ?? 0xff;
  let length = first;
  let content = at + 2;
  if (first >= 0x80) {
    const octets = first & 0x7f;
    if (octets === 0 || octets > 3) throw new DerError('a length that no entry has', at);
    length = 0;
    for (let i = 0; i < octets; i++) length = length * 256 + (list[content++] ?? 0);
  }
  const end = content + length;
  const serialLength = list[content + 1] ?? 0xff;
  const isEntry = list[at] === tag.sequence && list[content] === tag.integer && serialLength < 0x80;
  if (!isEntry || end > list.length || content + 2 + serialLength > end) {
    throw new DerError('not an entry of a CRL', at);
  }
  return end;
}

/** userCertificate of the entry that begins there: a view of the INTEGER, tag and length included. */
export function serialAt(list: Bytes, at: number): Bytes {
  const first = list[at + 1] ?? 0;
  const start = first < 0x80 ? at + 2 : at + 2 + (first & 0x7f);
  return list.subarray(start, start + 2 + (list[start + 1] ?? 0));
}

/** Serial numbers by which sets and maps here know certificates: INTEGERs in hex. */
export const serialName = (entry: Bytes): string => hex(serialAt(entry, 0));

/** The entries of a list, each a view of it: for lists of a few, or where each is wanted. */
export function entriesOf(list: Bytes, from = 0): Bytes[] {
  const entries: Bytes[] = [];
  for (let at = from; at < list.length; ) {
    const end = entryEnd(list, at);
    entries.push(list.subarray(at, end));
    at = end;
  }
  return entries;
}

export const serialsOf = (list: Bytes): Set<string> => new Set(entriesOf(list).map(serialName));

/** How one list became another. */
export interface EntryChanges {
  /** Entries of the second that are not, octet for octet, in the first. */
  readonly added: readonly Bytes[];
  /** Entries of the first whose certificates the second does not list. */
  readonly removed: readonly Bytes[];
}

/** revocationDate of an entry, milliseconds since 1970. Throws `DerError` where it has none. */
function dateOf(list: Bytes, at: number, end: number): number {
  const serial = serialAt(list, at);
  return new DerReader(list, serial.byteOffset - list.byteOffset + serial.length, end).time();
}

/** The latest revocationDate of a list, milliseconds since 1970; zero for an empty list. */
export function latestRevocation(list: Bytes): number {
  let latestMs = 0;
  // Of the latest so far: nearly all dates are UTCTime of this century, which compare as text.
  let latestAt = -1;
  for (let at = 0; at < list.length; ) {
    const end = entryEnd(list, at);
    const serial = serialAt(list, at);
    const dateAt = serial.byteOffset - list.byteOffset + serial.length;
    const isText = list[dateAt] === tag.utcTime && (list[dateAt + 2] ?? 0) < 0x35;
    if (!isText || latestAt < 0 || isLater(list, dateAt, latestAt)) {
      latestMs = Math.max(latestMs, dateOf(list, at, end));
      if (isText) latestAt = dateAt;
    }
    at = end;
  }
  return latestMs;
}

const utcTimeOctets = 15;

function isLater(list: Bytes, a: number, b: number): boolean {
  for (let i = 2; i < utcTimeOctets; i++) {
    const difference = (list[a + i] ?? 0) - (list[b + i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/** How far two lists are searched for where they go on alike: for the few that come or go between two CRLs. */
const window = 48;

/**
 * Compares two lists: right for any two, and fast for two that are nearly alike and in nearly the same order, of which
 * what is alike is compared as memory. Throws `DerError` where one is no list.
 */
export function entryChanges(first: Bytes, second: Bytes): EntryChanges {
  const gone: Bytes[] = [];
  const come: Bytes[] = [];
  const changed: Bytes[] = [];
  let [a, b] = [0, 0];
  for (;;) {
    const alike = alikeFrom(first, a, second, b);
    a += alike;
    b += alike;
    if (a === first.length || b === second.length) break;
    const [endA, endB] = [entryEnd(first, a), entryEnd(second, b)];
    const now = second.subarray(b, endB);
    // Of one certificate, but not the same.
    if (equal(serialAt(first, a), serialAt(second, b))) {
      changed.push(now);
      [a, b] = [endA, endB];
      continue;
    }
    const ours = [...someEntries(first, a)];
    const theirs = [...someEntries(second, b)];
    const [x, y] = whereAlike(ours, theirs);
    for (const entry of ours.slice(0, x)) gone.push(entry);
    for (const entry of theirs.slice(0, y)) come.push(entry);
    a += octetsOf(ours.slice(0, x));
    b += octetsOf(theirs.slice(0, y));
  }
  gone.push(...entriesOf(first, a));
  come.push(...entriesOf(second, b));
  return withoutMoved(gone, come, changed);
}

/** What is gone in one place and has come in another has only moved. */
function withoutMoved(
  gone: readonly Bytes[],
  come: readonly Bytes[],
  changed: readonly Bytes[],
): EntryChanges {
  if (gone.length === 0 || come.length === 0) return { added: [...changed, ...come], removed: gone };
  const before = new Map(gone.map((entry) => [serialName(entry), entry]));
  const added = come.filter((entry) => !isSame(before.get(serialName(entry)), entry));
  for (const entry of come) before.delete(serialName(entry));
  return { added: [...changed, ...added], removed: [...before.values()] };
}

/** Entries from an offset on, as many as are searched. */
function* someEntries(list: Bytes, from: number): Iterable<Bytes> {
  let at = from;
  for (let count = 0; count <= window && at < list.length; count++) {
    const end = entryEnd(list, at);
    yield list.subarray(at, end);
    at = end;
  }
}

/** How many entries of either stand before the nearest two of one certificate; all of them where there are none. */
function whereAlike(ours: readonly Bytes[], theirs: readonly Bytes[]): [number, number] {
  const places = new Map(theirs.map((entry, y) => [serialName(entry), y]));
  let nearest: [number, number] = [ours.length, theirs.length];
  for (const [x, entry] of ours.entries()) {
    if (x >= nearest[0] + nearest[1]) break;
    const y = places.get(serialName(entry));
    if (y !== undefined && x + y < nearest[0] + nearest[1]) nearest = [x, y];
  }
  return nearest;
}

const octetsOf = (entries: readonly Bytes[]): number => entries.reduce((sum, { length }) => sum + length, 0);

const isSame = (a: Bytes | undefined, b: Bytes): boolean => a !== undefined && view(a).equals(b);

/** Memory that is compared at once. */
const blockOctets = 8192;

/** Octets of whole entries that are the same from two offsets on. */
function alikeFrom(first: Bytes, a: number, second: Bytes, b: number): number {
  const [ours, theirs] = [view(first), view(second)];
  const most = Math.min(first.length - a, second.length - b);
  let same = 0;
  while (same < most) {
    const length = Math.min(blockOctets, most - same);
    const [x, y] = [a + same, b + same];
    if (ours.compare(theirs, y, y + length, x, x + length) !== 0) break;
    same += length;
  }
  if (same === most && a + same === first.length) return same;
  // From here on it is entries that are compared: the difference is in the block at hand.
  let at = 0;
  for (;;) {
    if (a + at >= first.length || b + at >= second.length) return at;
    const next = entryEnd(first, a + at) - a;
    if (next > same && (next > most || !sameOctets(first, a + at, a + next, second, b + at))) return at;
    at = next;
  }
}

function sameOctets(a: Bytes, start: number, end: number, b: Bytes, bStart: number): boolean {
  for (let i = start, j = bStart; i < end; i++, j++) if (a[i] !== b[j]) return false;
  return true;
}
