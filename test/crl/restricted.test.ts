import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { deviceClassName, deviceClassText } from '../../core/model/device.ts';
import type { RestrictionFacts } from '../../core/model/restriction.ts';
import { decodeBucket } from '../../crl/encode/bucket.ts';
import { EntryReader, EntryStore, type FeedUpdate } from '../../crl/entries/entry-store.ts';
import { removeScratch, scratch } from '../support/harness.ts';

// What a publisher lists of phones that are restricted, by its record alone.

afterAll(removeScratch);

const day = 86_400_000;
const nowMs = Date.UTC(2026, 10, 27);
const keys = [{ epoch: 1, key: randomBytes(16) }];
const noFacts = { osVersion: null, secureElement: null, patchLevel: null };
const text = deviceClassText({ platform: 'android', model: 'A', ...noFacts }, 0);
const deviceClass = deviceClassName(text);
const known = { type: 'device-class', deviceClass, facts: JSON.parse(text) } as const;
const restriction = (restrictionId: string, over: Partial<RestrictionFacts>) => ({
  ...{ type: 'restriction' as const, restrictionId, version: 1, heldMs: nowMs, endedMs: null },
  ...{ revokedMs: null, reason: null, lastCohort: null },
  match: {
    ...{ platform: 'android', models: null, secureElements: null },
    ...{ osVersionFrom: null, osVersionTo: null, patchLevelBefore: null },
  },
  ...over,
});
const phone = (position: number, notAfterMs: number) => ({
  ...{ authority: 'signing-1', epoch: 1, position, shard: 's', deviceClass, version: 1, notAfterMs },
});
const update = (over: Partial<FeedUpdate>): FeedUpdate => ({
  ...{ authorities: [], shards: [], changes: [], phones: [], restricted: [], verifiers: [], knownMs: nowMs },
  cursor: { incarnation: 'i', positions: {} },
  ...over,
});

function open() {
  const file = join(scratch(), 'entries.db');
  const store = new EntryStore(file);
  const listed = (at = nowMs, with_ = keys): string[] => {
    const reader = new EntryReader(file);
    try {
      const items = reader.read(1, with_, at).buckets.flatMap(decodeBucket);
      return items.map(({ position, state }) => `${position} ${state}`).sort();
    } finally {
      reader.close();
    }
  };
  return { store, listed };
}

it('a certificate that expired before a restriction began is not listed, whatever restricted it earlier', () => {
  const { store, listed } = open();
  const phones = [phone(0, nowMs - 30 * day), phone(1, nowMs + 1000 * day)];
  store.learn(update({ restricted: [known], phones }));
  const earlier = restriction('a', { heldMs: nowMs - 60 * day, endedMs: nowMs - 59 * day });
  store.learn(update({ restricted: [earlier, restriction('b', {})] }));
  expect(listed()).toEqual(['0 released', '1 held']);
  store.close();
});

it('a restriction that has ended is the reason why entries leave, and forgotten after 90 days', () => {
  const { store, listed } = open();
  store.learn(update({ restricted: [known], phones: [phone(1, nowMs + 1000 * day)] }));
  store.learn(update({ restricted: [restriction('a', { endedMs: nowMs })] }));
  expect(listed(nowMs + 89 * day)).toEqual(['1 released']);
  expect(listed(nowMs + 91 * day)).toEqual([]);
  store.close();
});

it('without the key of the epoch nothing is listed in part: the list is not issued, and the error says why', () => {
  const { store, listed } = open();
  store.learn(update({ restricted: [known, restriction('a', {})], phones: [phone(1, nowMs + day)] }));
  expect(() => listed(nowMs, [])).toThrow(/key of epoch 1 is not known/);
  expect(listed()).toEqual(['1 held']);
  store.close();
});

it('a batch that cannot be written leaves nothing in memory that the file does not have', () => {
  const { store, listed } = open();
  const cursor: Record<string, unknown> = { incarnation: 'i', positions: {} };
  cursor.self = cursor;
  const batch = update({ restricted: [known, restriction('a', {})], phones: [phone(1, nowMs + day)] });
  expect(() => store.learn({ ...batch, cursor: cursor as never })).toThrow(/cannot be written/);
  expect([...store.learn(batch).changed]).toEqual([1]);
  expect(listed()).toEqual(['1 held']);
  store.close();
});
