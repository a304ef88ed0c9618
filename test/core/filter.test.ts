import { createCipheriv, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildShards, planOf } from '../../core/filter/build.ts';
import { buildFilter } from '../../core/filter/build-filter.ts';
import { encodeDelta, FilterDelta } from '../../core/filter/delta.ts';
import {
  decodeFilter,
  encodeShards,
  encodeSigned,
  FilterError,
  type FilterHead,
  FilterTables,
} from '../../core/filter/filter.ts';
import { solve } from '../../core/filter/ribbon.ts';

const key = randomBytes(16);
const cipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false);
const serialOf = (position: number): Uint8Array => {
  const block = Buffer.alloc(16);
  block.writeUIntBE(position, 10, 6);
  return Buffer.concat([Buffer.of(1), cipher.update(block)]);
};

const bitsOf = (count: number, revoked: ReadonlySet<number>): Uint8Array => {
  const bits = new Uint8Array(Math.ceil(count / 8));
  for (const i of revoked) bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7));
  return bits;
};

const head = (more: Partial<FilterHead>): FilterHead => ({
  ...{ type: 'base', kind: 'signing', sequence: 1, knownAt: '', covers: '', believeUntil: '' },
  ...{ authorities: [], base: null, columns: 0, shards: 1 },
  ...more,
});

describe('a revocation filter', () => {
  it('has no false answer for any certificate that it covers, whatever number is revoked', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 0, max: 2 ** 40 }),
        (count, share, first) => {
          const revoked = new Set(
            Array.from({ length: count }, (_, i) => i).filter(
              (i) => ((i * 2_654_435_761) % 1000) / 1000 < share,
            ),
          );
          const plan = planOf(count, revoked.size);
          const run = { key, first, count, revoked: bitsOf(count, revoked) };
          const body = encodeShards(buildShards({ runs: [run], ...plan, part: 0, parts: 1 }));
          const tables = new FilterTables(head(plan), body);
          const wrong = Array.from({ length: count }, (_, i) => i).filter(
            (i) => tables.isRevoked(serialOf(first + i)) !== revoked.has(i),
          );
          expect(wrong).toEqual([]);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('is the same however many threads build it, of several epochs, in many shards', async () => {
    const other = randomBytes(16);
    const revoked = new Set(Array.from({ length: 30_000 }, (_, i) => i * 3));
    const runs = [
      { key, first: 0, count: 100_000, revoked: bitsOf(100_000, revoked) },
      { key: other, first: 2 ** 33, count: 50_000, revoked: new Uint8Array(6250) },
    ];
    const [one, three] = [
      await buildFilter(runs, { threads: 1, niceness: 0 }),
      await buildFilter(runs, { threads: 3, niceness: 0 }),
    ];
    expect(one.shards).toBeGreaterThan(1);
    expect(three).toEqual(one);
    const tables = new FilterTables(head(three), three.body);
    for (let i = 0; i < 100_000; i += 7) expect(tables.isRevoked(serialOf(i))).toBe(revoked.has(i));
  });

  it('is no larger than 1.15 of the information bound', () => {
    const [count, share] = [400_000, 0.158];
    const revoked = new Set(Array.from({ length: count }, (_, i) => i).filter(() => Math.random() < share));
    const plan = planOf(count, revoked.size);
    const run = { key, first: 0, count, revoked: bitsOf(count, revoked) };
    const { length } = encodeShards(buildShards({ runs: [run], ...plan, part: 0, parts: 1 }));
    const p = revoked.size / count;
    const bound = (count * (-p * Math.log2(p) - (1 - p) * Math.log2(1 - p))) / 8;
    expect(length / bound).toBeLessThan(1.15);
  });

  it('stops where it is stopped', async () => {
    const run = { key, first: 0, count: 2_000_000, revoked: new Uint8Array(250_000).fill(0x11) };
    const stop = new AbortController();
    const building = buildFilter([run], { threads: 1, niceness: 0, signal: stop.signal });
    stop.abort();
    await expect(building).rejects.toThrow(/ended/);
  });

  it('cannot be made of one certificate with two statuses', () => {
    const keys = Uint32Array.of(1, 2, 3, 1, 2, 3);
    expect(() => solve(keys, Uint32Array.of(0, 1), 2, 1)).toThrow(/twice/);
  });
});

describe('a file of a filter', () => {
  const body = encodeShards([
    { seeds: [0, 0], rows: [0, 128], words: [new Uint32Array(0), new Uint32Array(4)] },
  ]);
  const signed = encodeSigned(head({ shards: 1 }), body);
  const file = Buffer.concat([signed, Buffer.from('signature')]);

  it('is taken apart as it was put together', () => {
    const opened = decodeFilter(file);
    expect(opened.head).toEqual(head({ shards: 1 }));
    expect(Buffer.from(opened.signed)).toEqual(signed);
    expect(Buffer.from(opened.signature).toString()).toBe('signature');
    expect(new FilterTables(opened.head, opened.body).isRevoked(serialOf(1))).toBe(false);
  });

  it('is refused wherever it is cut, and with lengths that lie', () => {
    for (let length = 0; length <= signed.length; length += 1)
      expect(() => decodeFilter(file.subarray(0, length))).toThrow(FilterError);
    for (const wrong of [{ shards: 0 }, { shards: 2 }, { shards: 1e9 }, { columns: -1 }, { columns: 2.5 }])
      expect(() => new FilterTables(head(wrong), body)).toThrow(FilterError);
    const rows = Buffer.from(body);
    rows.writeUInt32BE(0xffffffff, 6);
    expect(() => new FilterTables(head({}), rows)).toThrow(FilterError);
  });

  it('of changes says what was revoked and released since, and nothing of others', () => {
    const delta = new FilterDelta(
      encodeDelta({ revoked: [serialOf(1), serialOf(2)], released: [serialOf(3)] }),
    );
    expect([1, 2, 3, 4].map((i) => delta.isRevoked(serialOf(i)))).toEqual([true, true, false, undefined]);
    expect(() => new FilterDelta(encodeDelta({ revoked: [serialOf(1)], released: [] }).subarray(1))).toThrow(
      FilterError,
    );
  });
});
