import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';

// A bucket: some of a shard's certificates that have ever been revoked or held, in one row of the publisher's record.
// Their number (4 octets); 18 octets about each, in the order of epoch and position; and their CRL entries, encoded, one
// behind the other. So a CRL of twenty thousand entries is some sixty copies of memory, and one revocation rewrites a few
// kilobytes.

/** Buckets of one shard. A shard of 20,000 certificates has at most some 320 in each. */
export const bucketsPerShard = 64;

/** A certificate as its shard remembers it. */
export interface StoredEntry {
  readonly epoch: number;
  readonly position: number;
  readonly version: number;
  /**
   * Released, or ended: listed no longer; remembered for its version, and as the reason why it is not listed. Ended is what
   * was shown by a scheduled CRL after its end (RFC 5280 §3.3).
   */
  readonly state: 'held' | 'revoked' | 'released' | 'ended';
  readonly notAfterMs: number;
  /** Its CRL entry, encoded, as it last stood; empty where it never did. */
  readonly entry: Bytes;
}

const states = ['held', 'revoked', 'released', 'ended'] as const;
const [releasedState, endedState] = [2, 3];
const headOctets = 4;
const itemOctets = 18;
/** Where each field of an item stands. Octets are little-endian. */
const field = { epoch: 0, state: 1, position: 2, version: 8, notAfterSeconds: 12, entryLength: 16 } as const;

/** Seconds. A certificate that ends in 2106 or later counts as one that never ends. */
export const endless = 2 ** 32 - 1;

/** A certificate's name within its authority, as a number: an epoch is one octet, and positions stay far below 2^46. */
export const nameOf = ({ epoch, position }: Pick<CertificateId, 'epoch' | 'position'>): number =>
  position * 256 + epoch;

/** Which of its shard's buckets a certificate is in. */
export function bucketOf(position: number): number {
  const hash = Math.imul(position % 2 ** 32, 0x9e3779b1) >>> 0;
  return Math.floor((hash / 2 ** 32) * bucketsPerShard);
}

export function decodeBucket(octets: Bytes): StoredEntry[] {
  const buffer = view(octets);
  const count = buffer.readUInt32LE(0);
  let entryAt = headOctets + count * itemOctets;
  return Array.from({ length: count }, (_, i) => {
    const at = headOctets + i * itemOctets;
    const length = buffer.readUInt16LE(at + field.entryLength);
    entryAt += length;
    return {
      epoch: buffer.readUInt8(at + field.epoch),
      position: buffer.readUIntLE(at + field.position, 6),
      version: buffer.readUInt32LE(at + field.version),
      state: states[buffer.readUInt8(at + field.state)] ?? 'revoked',
      notAfterMs: buffer.readUInt32LE(at + field.notAfterSeconds) * 1000,
      entry: octets.subarray(entryAt - length, entryAt),
    };
  });
}

export function encodeBucket(items: Iterable<StoredEntry>): Bytes {
  const sorted = [...items].sort((a, b) => a.epoch - b.epoch || a.position - b.position);
  const entriesStart = headOctets + sorted.length * itemOctets;
  const buffer = Buffer.alloc(sorted.reduce((sum, { entry }) => sum + entry.length, entriesStart));
  buffer.writeUInt32LE(sorted.length, 0);
  let entryAt = entriesStart;
  for (const [i, item] of sorted.entries()) {
    const at = headOctets + i * itemOctets;
    buffer.writeUInt8(item.epoch, at + field.epoch);
    buffer.writeUInt8(states.indexOf(item.state), at + field.state);
    buffer.writeUIntLE(item.position, at + field.position, 6);
    buffer.writeUInt32LE(item.version, at + field.version);
    buffer.writeUInt32LE(Math.min(Math.floor(item.notAfterMs / 1000), endless), at + field.notAfterSeconds);
    buffer.writeUInt16LE(item.entry.length, at + field.entryLength);
    buffer.set(item.entry, entryAt);
    entryAt += item.entry.length;
  }
  return buffer;
}

/** What complete CRLs list of some buckets. */
export interface Listed {
  /** See entries.ts. */
  readonly entries: Bytes;
  /** Among them, where the entries of certificates stand that ended before a time, in order. */
  readonly ended: readonly { readonly start: number; readonly end: number }[];
}

/**
 * Gathers the entries of buckets as of now, leaving out what was released, and what has ended and been shown; what ended by
 * a clock that was ahead is listed again. No object is made of a certificate that is listed.
 */
export function gatherListed(
  buckets: readonly Bytes[],
  { nowMs, endedBeforeMs }: { readonly nowMs: number; readonly endedBeforeMs: number },
): Listed {
  const out = Buffer.allocUnsafe(buckets.reduce((sum, { length }) => sum + length, 0));
  const ended: { start: number; end: number }[] = [];
  const seconds = (ms: number): number => Math.min(Math.floor(ms / 1000), endless);
  const [nowSeconds, endedBeforeSeconds] = [seconds(nowMs), seconds(endedBeforeMs)];
  let length = 0;
  for (const octets of buckets) {
    const items = u32(octets, 0);
    const end = headOctets + items * itemOctets;
    let from = end;
    let to = end;
    const flush = (): void => {
      out.set(octets.subarray(from, to), length);
      length += to - from;
    };
    for (let at = headOctets; at < end; at += itemOctets) {
      const entry = u16(octets, at + field.entryLength);
      const state = octets[at + field.state];
      const notAfter = u32(octets, at + field.notAfterSeconds);
      if (state === releasedState || (state === endedState && notAfter < nowSeconds)) {
        flush();
        from = to + entry;
      } else if (notAfter < endedBeforeSeconds) {
        const start = length + to - from;
        ended.push({ start, end: start + entry });
      }
      to += entry;
    }
    flush();
  }
  return { entries: out.subarray(0, length), ended };
}

const u16 = (octets: Bytes, at: number): number => (octets[at] ?? 0) + (octets[at + 1] ?? 0) * 256;
const u32 = (octets: Bytes, at: number): number => u16(octets, at) + u16(octets, at + 2) * 65_536;
