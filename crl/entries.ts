import { type Bytes, hex } from '../core/bytes.ts';
import { DerError } from '../core/der-reader.ts';
import { tag } from '../core/der-writer.ts';

// Lists of CRL entries as octets: one SEQUENCE { userCertificate INTEGER, revocationDate, … } behind the other, the
// content of revokedCertificates (RFC 5280 §5.1). A nation has millions of them: nothing here makes an object of one.

/** Where each entry begins, and behind the last, where the list ends. Throws `DerError` where it is no such list. */
export function entryOffsets(list: Bytes): Int32Array {
  let offsets = new Int32Array(Math.max(16, Math.ceil(list.length / 40)));
  let count = 0;
  for (let at = 0; at < list.length; ) {
    const content = contentOf(list, at, tag.sequence);
    const serial = contentOf(list, content.start, tag.integer);
    if (content.end > list.length || serial.end > content.end) throw new DerError('a truncated entry', at);
    if (count + 1 >= offsets.length) {
      const larger = new Int32Array(offsets.length * 2);
      larger.set(offsets);
      offsets = larger;
    }
    offsets[count++] = at;
    at = content.end;
  }
  offsets[count] = list.length;
  return offsets.subarray(0, count + 1);
}

/** Content of the value at an offset. */
function contentOf(
  list: Bytes,
  at: number,
  expected: number,
): { readonly start: number; readonly end: number } {
  if (list[at] !== expected) throw new DerError('not an entry of a CRL', at);
  const first = list[at + 1] ?? 0x80;
  if (first < 0x80) return { start: at + 2, end: at + 2 + first };
  const octets = first & 0x7f;
  if (octets === 0 || octets > 3) throw new DerError('a length that no entry has', at);
  let length = 0;
  for (let i = 0; i < octets; i++) length = length * 256 + (list[at + 2 + i] ?? 0);
  return { start: at + 2 + octets, end: at + 2 + octets + length };
}

/** userCertificate of the entry that begins there: a view of the INTEGER, tag and length included. */
export function serialAt(list: Bytes, at: number): Bytes {
  const start = (list[at + 1] ?? 0) < 0x80 ? at + 2 : at + 2 + ((list[at + 1] ?? 0) & 0x7f);
  return list.subarray(start, start + 2 + (list[start + 1] ?? 0));
}

/** Serial numbers of a list: INTEGERs in hex, by which maps and sets here know certificates. */
export function serialsOf(list: Bytes): Set<string> {
  const offsets = entryOffsets(list);
  const serials = new Set<string>();
  for (const at of offsets.subarray(0, -1)) serials.add(hex(serialAt(list, at)));
  return serials;
}

/** How one list became another. */
export interface EntryChanges {
  /** Entries of the second that are not, octet for octet, in the first. */
  readonly added: readonly Bytes[];
  /** Entries of the first whose certificates the second does not list. */
  readonly removed: readonly Bytes[];
}

/** How far two lists are searched for where they go on alike: for the few that come or go between two CRLs. */
const window = 48;

/**
 * Compares two lists. Walks both at once, for they are nearly alike and in nearly the same order; is right for any two.
 */
export function entryChanges(first: Bytes, second: Bytes): EntryChanges {
  const a = entryOffsets(first);
  const b = entryOffsets(second);
  const [aCount, bCount] = [a.length - 1, b.length - 1];
  const entryOf = (list: Bytes, offsets: Int32Array, i: number): Bytes =>
    list.subarray(offsets[i] ?? 0, offsets[i + 1] ?? 0);
  const gone: Bytes[] = [];
  const come: Bytes[] = [];
  const changed: Bytes[] = [];
  let [i, j] = [0, 0];
  while (i < aCount && j < bCount) {
    const [atA, atB] = [a[i] ?? 0, b[j] ?? 0];
    if (sameOctets(first, atA, a[i + 1] ?? 0, second, atB, b[j + 1] ?? 0)) {
      i++;
      j++;
      continue;
    }
    if (sameSerial(first, atA, second, atB)) {
      changed.push(entryOf(second, b, j));
      i++;
      j++;
      continue;
    }
    const [x, y] = whereAlike(first, a.subarray(i), second, b.subarray(j)) ?? [aCount - i, bCount - j];
    for (let k = 0; k < x; k++) gone.push(entryOf(first, a, i++));
    for (let k = 0; k < y; k++) come.push(entryOf(second, b, j++));
  }
  while (i < aCount) gone.push(entryOf(first, a, i++));
  while (j < bCount) come.push(entryOf(second, b, j++));
  return withoutMoved(gone, come, changed);
}

/** What is gone in one place and has come in another has only moved. */
function withoutMoved(
  gone: readonly Bytes[],
  come: readonly Bytes[],
  changed: readonly Bytes[],
): EntryChanges {
  if (gone.length === 0 || come.length === 0) return { added: [...changed, ...come], removed: gone };
  const before = new Map(gone.map((entry) => [hex(serialAt(entry, 0)), entry]));
  const added = come.filter((entry) => {
    const earlier = before.get(hex(serialAt(entry, 0)));
    return !earlier || !sameOctets(earlier, 0, earlier.length, entry, 0, entry.length);
  });
  for (const entry of come) before.delete(hex(serialAt(entry, 0)));
  return { added: [...changed, ...added], removed: [...before.values()] };
}

/** The nearest pair of entries of one certificate; undefined where there is none near. */
function whereAlike(first: Bytes, a: Int32Array, second: Bytes, b: Int32Array): [number, number] | undefined {
  for (let distance = 1; distance <= window; distance++) {
    for (let x = 0; x <= distance; x++) {
      const y = distance - x;
      if (x >= a.length - 1 || y >= b.length - 1) continue;
      if (sameSerial(first, a[x] ?? 0, second, b[y] ?? 0)) return [x, y];
    }
  }
  return undefined;
}

function sameSerial(first: Bytes, atA: number, second: Bytes, atB: number): boolean {
  // Both entries begin with a header of two octets, or of one of the rarer lengths.
  if ((first[atA + 1] ?? 0) >= 0x80 || (second[atB + 1] ?? 0) >= 0x80) {
    return hex(serialAt(first, atA)) === hex(serialAt(second, atB));
  }
  const length = first[atA + 3] ?? 0;
  return sameOctets(first, atA + 3, atA + 4 + length, second, atB + 3, atB + 4 + length);
}

function sameOctets(a: Bytes, aStart: number, aEnd: number, b: Bytes, bStart: number, bEnd: number): boolean {
  if (aEnd - aStart !== bEnd - bStart) return false;
  for (let i = aStart, j = bStart; i < aEnd; i++, j++) if (a[i] !== b[j]) return false;
  return true;
}
