import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DerError } from '../../core/asn1/der-reader.ts';
import {
  bucketOf,
  bucketsPerShard,
  decodeBucket,
  encodeBucket,
  gatherListed,
  type StoredEntry,
} from '../../crl/encode/bucket.ts';
import { encodeCrlEntry } from '../../crl/encode/encode.ts';
import { entriesOf, entryChanges, serialName } from '../../crl/encode/entries.ts';

const entry = (serial: number, reason: 'superseded' | 'keyCompromise' | null = null): Uint8Array =>
  encodeCrlEntry({
    serial: Uint8Array.of(1, serial >> 8, serial & 0xff),
    revokedMs: Date.UTC(2026, 0, 1),
    reason,
    invalidityMs: null,
  });

describe('comparing two lists of entries', () => {
  const list = fc.uniqueArray(fc.tuple(fc.nat(400), fc.boolean()), {
    selector: ([serial]) => serial,
    maxLength: 200,
  });

  it('finds what was added, changed and removed, whatever the order of either', () => {
    fc.assert(
      fc.property(list, list, (first, second) => {
        const encode = (items: readonly (readonly [number, boolean])[]) =>
          items.map(([serial, flag]) => entry(serial, flag ? 'keyCompromise' : 'superseded'));
        const [a, b] = [encode(first), encode(second)];
        const { added, removed } = entryChanges(Buffer.concat(a), Buffer.concat(b));
        const hex = (entries: readonly Uint8Array[]) =>
          entries.map((each) => Buffer.from(each).toString('hex')).sort();
        const inA = new Set(hex(a));
        expect(hex(added)).toEqual(hex(b).filter((each) => !inA.has(each)));
        const serials = new Set(b.map(serialName));
        expect(hex(removed)).toEqual(hex(a.filter((each) => !serials.has(serialName(each)))));
      }),
    );
  });

  it('finds one among ten thousand that are alike', () => {
    const all = Array.from({ length: 10_000 }, (_, i) => entry(i));
    const without = Buffer.concat(all.toSpliced(7_777, 1));
    const whole = Buffer.concat(all);
    expect(entryChanges(whole, without).removed.map(serialName)).toEqual([serialName(entry(7_777))]);
    expect(entryChanges(without, whole).added.map(serialName)).toEqual([serialName(entry(7_777))]);
    expect(entryChanges(whole, whole)).toEqual({ added: [], removed: [] });
  });

  it.each([
    ['is cut off', Buffer.from(entry(1)).subarray(0, -1)],
    ['is no sequence', Buffer.from('310302010100', 'hex')],
    ['has no serial number', Buffer.from('30050403010203', 'hex')],
    ['has an indefinite length', Buffer.from('3080020101', 'hex')],
    ['has a serial number longer than itself', Buffer.from('3003027f01', 'hex')],
  ])('refuses a list whose entry %s', (_what, octets) => {
    expect(() => entriesOf(octets)).toThrow(DerError);
    expect(() => entryChanges(new Uint8Array(), octets)).toThrow(DerError);
  });
});

describe('a bucket', () => {
  const item = fc.record<StoredEntry>({
    epoch: fc.integer({ min: 1, max: 127 }),
    position: fc.nat(2 ** 31).map((position) => position * 1000),
    version: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    state: fc.constantFrom('held', 'revoked', 'released', 'ended'),
    notAfterMs: fc.nat(4_000_000_000).map((seconds) => seconds * 1000),
    entry: fc.nat(999).map((serial) => entry(serial)),
  });
  const items = fc.uniqueArray(item, {
    selector: ({ epoch, position }) => `${epoch}:${position}`,
    maxLength: 60,
  });

  it('is read as it was written, in the order of epochs and positions', () => {
    fc.assert(
      fc.property(items, (all) => {
        const sorted = [...all].sort((a, b) => a.epoch - b.epoch || a.position - b.position);
        expect(
          decodeBucket(encodeBucket(all)).map((each) => ({ ...each, entry: serialName(each.entry) })),
        ).toEqual(sorted.map((each) => ({ ...each, entry: serialName(each.entry) })));
      }),
    );
  });

  it('lists all but what was released or has ended and been shown, and knows what has ended', () => {
    fc.assert(
      fc.property(fc.array(items, { maxLength: 4 }), fc.nat(4_000_000_000), (buckets, seconds) => {
        const encoded = buckets.map(encodeBucket);
        const { entries, ended } = gatherListed(encoded, {
          nowMs: seconds * 1000,
          endedBeforeMs: seconds * 1000,
        });
        const listed = encoded
          .flatMap(decodeBucket)
          .filter(
            ({ state, notAfterMs }) =>
              state !== 'released' && (state !== 'ended' || notAfterMs >= seconds * 1000),
          );
        expect(Buffer.from(entries)).toEqual(Buffer.concat(listed.map((each) => each.entry)));
        const wanted = listed.filter(({ notAfterMs }) => notAfterMs < seconds * 1000);
        expect(ended.map(({ start, end }) => serialName(entries.subarray(start, end)))).toEqual(
          wanted.map((each) => serialName(each.entry)),
        );
      }),
    );
  });

  it('is one of its shard’s, evenly, also where positions come in strides', () => {
    for (const stride of [1, 2, 64, 30_000]) {
      const counts = new Array<number>(bucketsPerShard).fill(0);
      for (let i = 0; i < 20_000; i++) {
        const bucket = bucketOf(i * stride);
        counts[bucket] = (counts[bucket] ?? 0) + 1;
      }
      expect(Math.max(...counts)).toBeLessThan((3 * 20_000) / bucketsPerShard);
    }
  });
});
