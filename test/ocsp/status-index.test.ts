import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { FeedBatch, FeedEvent, StatusEvent } from '../../core/feed/feed.ts';
import { FeedJournal } from '../../core/feed/feed-journal.ts';
import { type CertificateState, statusIn } from '../../core/model/revocation.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { ClassTable } from '../../ocsp/index/class-table.ts';
import { IndexKeeper } from '../../ocsp/index/index-keeper.ts';
import type { IndexUpdate } from '../../ocsp/index/index-reader.ts';
import { code, readStamp, Segment, segmentLength, stampOf } from '../../ocsp/index/segment.ts';
import { readSnapshot, writeSnapshot } from '../../ocsp/index/snapshot.ts';
import { StatusIndex } from '../../ocsp/index/status-index.ts';
import { removeScratch, scratch } from '../support/harness.ts';

afterAll(removeScratch);

const key = randomBytes(16);
const feed = { epochKey: async () => key };
const cipher = new SerialCipher(1, key);
const authority = 'signing-1';
const logger = pino({ level: 'silent' });

const status = (
  position: number,
  version: number,
  state: CertificateState,
  extra: object = {},
): StatusEvent => ({
  type: 'status',
  authority,
  epoch: 1,
  position,
  version,
  ...statusIn({
    state,
    reason: state === 'held' ? 'certificateHold' : state === 'revoked' ? 'keyCompromise' : null,
    revokedMs: state === 'held' || state === 'revoked' ? 1_700_000_000_000 + version * 1000 : null,
    invalidityMs: null,
  }),
  change: 'issued',
  notAfterMs: 2_000_000_000_000,
  shard: null,
  ...extra,
});
let delivered = 0;
const batch = (events: readonly FeedEvent[], watermarkMs = systemClock.wallMs()): FeedBatch => {
  delivered += events.length;
  return { events, cursor: { incarnation: 'i', positions: { n1: delivered } }, watermarkMs };
};
const stateOf = (index: StatusIndex, position: number) =>
  index.reader.lookup(authority, cipher.encrypt(position));

describe('a segment', () => {
  it('distinguishes any history of any certificate by its stamp', () => {
    const change = fc.record({
      offset: fc.nat(500),
      state: fc.constantFrom('good', 'held', 'revoked'),
      reason: fc.constantFrom(null, 'keyCompromise', 'superseded', 'certificateHold', 'unspecified'),
      revokedMs: fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((seconds) => seconds * 1000),
      version: fc.integer({ min: 1, max: 511 }),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 300 }), (changes) => {
        const segment = Segment.empty(new ClassTable());
        segment.fill(code.good);
        const model = new Map<number, (typeof changes)[number]>();
        for (const one of changes) {
          if (segment.isFull(model.size)) segment.use(segment.grown());
          const isNew = segment.setChange(one.offset, one as Parameters<Segment['setChange']>[1]);
          expect(isNew).toBe(!model.has(one.offset));
          model.set(one.offset, one);
        }
        expect(segment.countChanges()).toBe(model.size);
        for (let offset = 0; offset <= 500; offset++) {
          const expected = model.get(offset);
          const found = readStamp(segment.stamp(offset));
          if (!expected) expect(segment.stamp(offset)).toBe(stampOf.good);
          else {
            const { state, version, reason } = expected;
            const revokedMs = state === 'good' ? null : expected.revokedMs;
            expect(found).toEqual({ state, version, reason, revokedMs });
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  it('takes two bits a certificate, and ten octets each that ever changed', () => {
    const segment = Segment.empty(new ClassTable());
    expect(segment.memory.codes.byteLength).toBe(segmentLength / 4);
    for (let i = 0; i < 50_000; i++) {
      if (segment.isFull(i)) segment.use(segment.grown());
      segment.setChange(i * 5, { state: 'revoked', version: 2, revokedMs: 0, reason: null });
    }
    expect(segment.memory.changes.byteLength / 50_000).toBeLessThan(10.5);
  });
});

describe('the status index', () => {
  it('knows good, held, revoked, retired, unissued and never issued apart', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(
      batch([
        status(0, 1, 'good'),
        status(1, 2, 'held'),
        status(2, 2, 'revoked'),
        status(3, 2, 'retired'),
        status(4, 1, 'reserved'),
        status(5, 3, 'good'),
      ]),
    );
    expect([0, 1, 2, 3, 4, 5, 6, segmentLength * 9].map((position) => stateOf(index, position).type)).toEqual(
      ['good', 'revoked', 'revoked', 'retired', 'unissued', 'good', 'unissued', 'unissued'],
    );
    for (const serial of [
      Buffer.of(5),
      Buffer.concat([Buffer.of(1), randomBytes(16)]),
      Buffer.alloc(20, 1),
      Buffer.concat([Buffer.of(3), randomBytes(16)]),
    ])
      expect(index.reader.lookup(authority, serial).type).toBe('never-issued');
    expect(index.reader.lookup('another', cipher.encrypt(0)).type).toBe('never-issued');
  });

  it('shows what one thread writes to every reader, through growth and new segments', async () => {
    const index = new StatusIndex(feed, systemClock);
    const updates: IndexUpdate[] = [];
    const seen: Segment[] = [];
    await index.subscribe(async (update) => {
      updates.push(update);
      if (update.type === 'segment') seen.push(new Segment(update.memory, new ClassTable()));
    });
    for (let position = 0; position < 400; position++)
      await index.apply(batch([status(position, 2, 'revoked')]));
    await index.apply(batch([status(segmentLength + 1, 1, 'good')]));
    expect(updates.filter(({ type }) => type === 'segment').length).toBeGreaterThan(3);
    expect(seen.at(-1)?.stamp(1)).toBe(stampOf.good);
    expect(readStamp(seen.at(-2)?.stamp(399) ?? 0)).toMatchObject({ state: 'revoked' });
  });

  it('relies on a larger table only once every listener has it', async () => {
    const index = new StatusIndex(feed, systemClock);
    const held = Promise.withResolvers<void>();
    let waits = false;
    await index.subscribe(() => (waits ? held.promise : Promise.resolve()));
    await index.apply(batch([status(0, 1, 'good')]));
    waits = true;
    let isApplied = false;
    const applying = index
      .apply(batch(Array.from({ length: 100 }, (_, i) => status(i, 2, 'revoked'))))
      .then(() => {
        isApplied = true;
      });
    await new Promise((done) => setTimeout(done, 20));
    expect(isApplied).toBe(false);
    held.resolve();
    await applying;
    expect(stateOf(index, 99).type).toBe('revoked');
  });

  it('lets go of segments whose certificates have all ended, and says so of each of them', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(
      batch([
        status(0, 1, 'good', { notAfterMs: 1000 }),
        status(1, 2, 'revoked', { notAfterMs: 2000 }),
        status(segmentLength, 1, 'good', { notAfterMs: 3000 }),
        status(segmentLength * 2, 1, 'good', { notAfterMs: 1000 }),
      ]),
    );
    await index.retire(2500);
    const types = () =>
      [0, 1, 5, segmentLength, segmentLength * 2].map((position) => stateOf(index, position).type);
    // The last segment of an epoch may still get certificates.
    expect(types()).toEqual(['retired', 'retired', 'retired', 'good', 'good']);
    await index.apply(batch([status(1, 3, 'revoked', { notAfterMs: 9000 })]));
    expect(types()).toEqual(['retired', 'revoked', 'retired', 'good', 'good']);
  });
});

describe('a restriction', () => {
  const facts = {
    ...{ platform: 'android', model: 'A', isModelUnknown: false, osVersion: '16' },
    ...{
      secureElement: 'S',
      patchLevel: '2026-01',
      appletVersion: null,
      appVersion: null,
      sinceMs: null,
      cohort: 0,
    },
  };
  const match = {
    ...{ platform: 'android', models: ['A'], secureElements: null },
    ...{ osVersionFrom: null, osVersionTo: null, patchLevelBefore: null },
  };
  const known: FeedEvent = { type: 'device-class', deviceClass: 'a', facts };
  const other: FeedEvent = { type: 'device-class', deviceClass: 'b', facts: { ...facts, model: 'B' } };
  const device = (position: number, deviceClass: string, version = 1): FeedEvent => ({
    ...{ type: 'device', authority, epoch: 1, position, deviceClass, version },
    ...{ notAfterMs: 2_000_000_000_000, shard: null },
  });
  const restriction = (version: number, over: object = {}): FeedEvent => ({
    ...{ type: 'restriction', restrictionId: 'r', version, match, heldMs: 1_600_000_000_000 },
    ...{ endedMs: null, revokedMs: null, reason: null, lastCohort: null, ...over },
  });
  const phones = Array.from({ length: 3 }, (_, i) => [
    device(i, i === 2 ? 'b' : 'a'),
    status(i, 1, 'good'),
  ]).flat();
  const says = (index: StatusIndex) => [0, 1, 2].map((position) => stateOf(index, position));
  const good = { type: 'good' };
  const heldSince = { type: 'revoked', revokedMs: 1_600_000_000_000, reason: 'certificateHold' };

  it('is one event, by which all phones of its classes are held, released and revoked', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(batch([known, other, ...phones]));
    expect(says(index)).toEqual([good, good, good]);
    await index.apply(batch([restriction(1)]));
    expect(says(index)).toEqual([heldSince, heldSince, good]);
    await index.apply(batch([restriction(2, { endedMs: 1_700_000_000_000 })]));
    expect(says(index)).toEqual([good, good, good]);
    await index.apply(batch([restriction(3, { revokedMs: 1_700_000_000_000, reason: 'keyCompromise' })]));
    const revoked = { ...heldSince, reason: 'keyCompromise' };
    expect(says(index)).toEqual([revoked, revoked, good]);
  });

  it('is told in whatever order: before the class, before the phone, or twice', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(batch([restriction(1), ...phones, restriction(1)]));
    expect(says(index)).toEqual([good, good, good]);
    await index.apply(batch([other, known]));
    expect(says(index)).toEqual([heldSince, heldSince, good]);
  });

  it('never says good between a phone’s first event and its class', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(batch([known, restriction(1)]));
    const seen: string[] = [];
    await index.subscribe(async () => void seen.push(stateOf(index, 0).type));
    await index.apply(batch([device(0, 'a'), status(0, 1, 'good')]));
    expect(stateOf(index, 0)).toEqual(heldSince);
    expect(seen).not.toContain('good');
  });

  it('follows what is known of a phone last, whatever came before arrives later', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(batch([known, other, ...phones, restriction(1)]));
    await index.apply(batch([device(0, 'b', 2)]));
    expect(stateOf(index, 0)).toEqual(good);
    await index.apply(batch([device(0, 'a', 1)]));
    expect(stateOf(index, 0)).toEqual(good);
    await index.apply(batch([device(2, 'a', 2)]));
    expect(stateOf(index, 2)).toEqual(heldSince);
  });

  it('holds what something else holds since the earlier of both, and revoked stays revoked', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(batch([known, other, ...phones]));
    await index.apply(batch([status(0, 2, 'held'), status(1, 2, 'revoked'), restriction(1)]));
    expect(stateOf(index, 0)).toEqual(heldSince);
    expect(stateOf(index, 1)).toMatchObject({ reason: 'keyCompromise', revokedMs: 1_700_000_002_000 });
    await index.apply(batch([restriction(2, { endedMs: 1_700_000_000_000 })]));
    expect(stateOf(index, 0)).toMatchObject({ revokedMs: 1_700_000_002_000 });
    await index.apply(batch([status(0, 3, 'good')]));
    expect(stateOf(index, 0)).toEqual(good);
  });

  it('gives no stamp of before to an answer that is kept, though the status is the same again', async () => {
    const index = new StatusIndex(feed, systemClock);
    await index.apply(batch([known, ...phones]));
    const stamp = () => {
      const place = index.reader.find(authority, cipher.encrypt(0));
      return typeof place === 'string' ? place : place.segment.stamp(place.offset);
    };
    const stamps = [stamp()];
    for (let version = 1; version <= 8; version++) {
      await index.apply(batch([restriction(version, version % 2 === 0 ? { endedMs: version } : {})]));
      stamps.push(stamp());
    }
    expect(new Set(stamps).size).toBe(9);
  });

  it('is in a filter’s bits, and in a snapshot', async () => {
    const index = new StatusIndex(feed, systemClock);
    const many = Array.from(
      { length: 200 },
      (_, i): FeedEvent => ({ ...known, deviceClass: `c${i}` }) as FeedEvent,
    );
    await index.apply(batch([...many, known, other, ...phones, restriction(1)]));
    const bits: number[] = [];
    for await (const { revoked } of index.revokedRuns(() => true)) bits.push((revoked[0] ?? 0) & 7);
    expect(bits[0]).toBe(0b011);
    const file = join(scratch(), 'restricted.snapshot');
    await writeSnapshot(file, index, { cursor: { incarnation: 'i', positions: {} }, octets: 0 });
    const again = new StatusIndex(feed, systemClock);
    await readSnapshot(file)?.restore(again);
    expect(says(again)).toEqual(says(index));
    await again.apply(batch([restriction(2, { endedMs: 1_700_000_000_000 }), device(1, 'c7', 2)]));
    expect(says(again)).toEqual([good, good, good]);
  });
});

describe('a snapshot', () => {
  const fill = async (index: StatusIndex): Promise<void> => {
    await index.apply(batch([{ type: 'authority', authority, certificate: 'AAAA' }]));
    await index.apply(batch(Array.from({ length: 300 }, (_, i) => status(i * 1000, 1, 'good'))));
    await index.apply(batch(Array.from({ length: 100 }, (_, i) => status(i * 3000, 2, 'revoked'))));
  };
  const mark = { cursor: { incarnation: 'i', positions: { n1: 5 } }, octets: 0 };

  it('brings an index back as it was, with the mark to go on from', async () => {
    const file = join(scratch(), 'index.snapshot');
    const index = new StatusIndex(feed, systemClock);
    await fill(index);
    await writeSnapshot(file, index, mark);
    const again = new StatusIndex(feed, systemClock);
    const snapshot = readSnapshot(file);
    await snapshot?.restore(again);
    expect(snapshot?.mark).toEqual(mark);
    expect(Buffer.from(again.reader.authorities.get(authority) ?? [])).toEqual(Buffer.alloc(3));
    for (let i = 0; i < 300; i++) expect(stateOf(again, i * 1000)).toEqual(stateOf(index, i * 1000));
  });

  it('holds no key: neither serial numbers nor positions can be read from it', async () => {
    const file = join(scratch(), 'index.snapshot');
    const index = new StatusIndex(feed, systemClock);
    await fill(index);
    await writeSnapshot(file, index, mark);
    expect(readFileSync(file).includes(key)).toBe(false);
  });

  it('that was damaged in any octet, or cut short anywhere, is not believed', async () => {
    const file = join(scratch(), 'index.snapshot');
    const index = new StatusIndex(feed, systemClock);
    await fill(index);
    await writeSnapshot(file, index, mark);
    const good = readFileSync(file);
    for (let i = 0; i < 40; i++) {
      const bad = Buffer.from(good);
      const at = Math.floor(Math.random() * bad.length);
      bad[at] = (bad[at] ?? 0) ^ (1 << (i % 8));
      writeFileSync(file, bad);
      expect(() => readSnapshot(file)).toThrow(expect.objectContaining({ code: 'bad-request' }));
      writeFileSync(file, good);
      truncateSync(file, at);
      expect(() => readSnapshot(file)).toThrow(expect.objectContaining({ code: 'bad-request' }));
    }
  });

  it('and the journal behind it come to the same as the whole history, wherever a node is killed', async () => {
    const history = fc.array(
      fc.record({ position: fc.nat(40), state: fc.constantFrom('good', 'held', 'revoked') }),
      { minLength: 1, maxLength: 60 },
    );
    const kills = fc.array(fc.nat(60), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(history, kills, fc.nat(2), async (steps, killedAt, savesEvery) => {
        const folder = scratch();
        const versions = new Map<number, number>();
        const events = steps.map(({ position, state }) => {
          const version = (versions.get(position) ?? 0) + 1;
          versions.set(position, version);
          return status(position, version, version === 1 ? 'good' : state);
        });
        const whole = new StatusIndex(feed, systemClock);
        const open = () => {
          const index = new StatusIndex(feed, systemClock);
          const journal = new FeedJournal(join(folder, 'journal.ndjson'));
          return {
            index,
            keeper: new IndexKeeper({ index, journal, file: join(folder, 'index.snapshot'), logger }),
          };
        };
        let node = open();
        await node.keeper.resume();
        for (const [i, event] of events.entries()) {
          const one: FeedBatch = {
            events: [event],
            cursor: { incarnation: 'i', positions: { n1: i + 1 } },
            watermarkMs: 1,
          };
          await whole.apply(one);
          await node.keeper.follower.apply(one);
          if (savesEvery > 0 && i % (savesEvery * 7) === 3) await node.keeper.save();
          if (!killedAt.includes(i)) continue;
          node = open();
          expect(await node.keeper.resume()).toEqual(one.cursor);
        }
        for (let position = 0; position <= 40; position++)
          expect(stateOf(node.index, position)).toEqual(stateOf(whole, position));
      }),
      { numRuns: 40 },
    );
  });

  it('of another journal is not used', async () => {
    const folder = scratch();
    const file = join(folder, 'index.snapshot');
    const index = new StatusIndex(feed, systemClock);
    await fill(index);
    await writeSnapshot(file, index, { ...mark, octets: 10 });
    const again = new StatusIndex(feed, systemClock);
    const journal = new FeedJournal(join(folder, 'journal.ndjson'));
    expect(await new IndexKeeper({ index: again, journal, file, logger }).resume()).toBeUndefined();
    expect(stateOf(again, 0).type).toBe('never-issued');
  });
});
