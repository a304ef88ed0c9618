import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { request } from 'undici';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { FeedEvent } from '../../core/feed/feed.ts';
import { makeRegistry, serveMetrics } from '../../core/http/metrics.ts';
import { parseCrlNodeConfig } from '../../crl/config/options.ts';
import { deltaPath } from '../../crl/encode/names.ts';
import { EntryStore } from '../../crl/entries/entry-store.ts';
import { CrlFollower } from '../../crl/entries/follower.ts';
import { crlMetrics } from '../../crl/publish/metrics.ts';
import { CrlPublisher } from '../../crl/publish/publisher.ts';
import type { PublisherOptions } from '../../crl/publish/publisher-options.ts';
import { Schedule } from '../../crl/publish/schedule.ts';
import { listed, until } from '../support/actors.ts';
import { ManualClock, removeScratch, scratch } from '../support/harness.ts';
import {
  authorityCertificate,
  digestSigner,
  hourMs,
  readCrl,
  shardEvent,
  statusOf,
} from '../support/press.ts';

const key = Buffer.alloc(16, 7);
const shardName = 'card-signing/1/13113/0';
const pending: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of pending.splice(0)) await close();
});
afterAll(removeScratch);

/** The publisher with its worker threads, on a folder, over a key in memory. */
async function start(folder: string, clock: ManualClock, over: Partial<PublisherOptions> = {}) {
  const entries = join(folder, 'entries.db');
  const published = join(folder, 'published');
  const store = new EntryStore(entries);
  const registry = makeRegistry();
  const lines: string[] = [];
  const publisher = new CrlPublisher({
    store,
    entries,
    folder: published,
    epochKey: async () => new Uint8Array(16),
    signerOf: () => digestSigner(),
    clock,
    logger: pino({ base: null }, { write: (line) => void lines.push(line) }),
    metrics: crlMetrics(registry),
    workers: 1,
    validityMs: 48 * hourMs,
    refreshMs: 24 * hourMs,
    deltas: { validityMs: hourMs, everyMs: hourMs / 4 },
    onEvent: 'complete',
    onEventDelayMs: 5,
    deltaIsNamed: true,
    backdateMs: 0,
    ...over,
  });
  const follower = new CrlFollower({ feed: { epochKey: async () => key }, store, listener: publisher });
  let position = store.cursor?.positions.n1 ?? 0;
  const apply = (events: readonly FeedEvent[]): Promise<void> => {
    position += events.length;
    const cursor = { incarnation: 'one', positions: { n1: position } };
    return follower.apply({ events, cursor, watermarkMs: clock.wallMs() });
  };
  let isClosed = false;
  const close = async (): Promise<void> => {
    if (isClosed) return;
    isClosed = true;
    await publisher.stop();
    store.close();
  };
  pending.push(close);
  const crl = (name = shardName) => readFileSync(join(published, `crl/${name}.crl`));
  return { publisher, store, apply, close, crl, published, registry, log: () => lines.join('') };
}

async function opening(): Promise<FeedEvent[]> {
  const certificate = Buffer.from(await authorityCertificate(1)).toString('base64');
  return [{ type: 'authority', authority: 'signing-1', certificate }, shardEvent(shardName, 'signing-1')];
}

const revoked = (position: number, notAfterMs: number): FeedEvent =>
  statusOf({
    authority: 'signing-1',
    position,
    shard: shardName,
    notAfterMs,
    serial: new Uint8Array(),
    point: new Uint8Array(),
    model: undefined,
    version: 2,
    state: 'revoked',
    reason: 'superseded',
    revokedMs: 0,
  });

const metric = async (registry: ReturnType<typeof makeRegistry>, name: string): Promise<number> =>
  Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(await registry.metrics())?.[1]);

describe('a publisher', () => {
  it('replaces the complete CRL and its delta of a shard that changes, and no other’s', async () => {
    const clock = new ManualClock();
    const { publisher, apply, crl, published } = await start(scratch(), clock);
    const other = 'card-signing/1/13113/1';
    await apply([...(await opening()), shardEvent(other, 'signing-1')]);
    await publisher.settled();
    const before = [crl(other), crl()];
    await apply([revoked(1, clock.wallMs() + hourMs)]);
    await until('it is published', async () => listed(crl()).size === 1);
    expect(crl(other)).toEqual(before[0]);
    const delta = readCrl(readFileSync(deltaPath(join(published, `crl/${shardName}.crl`))));
    await publisher.settled();
    expect(delta.entries.size).toBe(1);
    expect(delta.number).toBe(readCrl(crl()).number);
  });

  it('publishes after a restart what it had learnt and not published', async () => {
    const clock = new ManualClock();
    const folder = scratch();
    const first = await start(folder, clock, { onEventDelayMs: 60_000 });
    await first.apply(await opening());
    await first.publisher.settled();
    await first.apply([revoked(1, clock.wallMs() + hourMs)]);
    await first.close();
    expect(listed(first.crl()).size).toBe(0);
    const second = await start(folder, clock);
    await second.apply([]);
    await second.publisher.settled();
    expect(listed(second.crl()).size).toBe(1);
  });

  it('tries again what failed, keeps what was published meanwhile, and counts it', async () => {
    const clock = new ManualClock();
    let fails = false;
    const signer: DigestSigner<'crl'> = {
      ...digestSigner(),
      signDigest: async (digest) => {
        if (fails) throw new Error('CKR_DEVICE_ERROR');
        return digestSigner().signDigest(digest);
      },
    };
    const { publisher, apply, crl, registry, log } = await start(scratch(), clock, {
      signerOf: () => signer,
    });
    await apply(await opening());
    await publisher.settled();
    fails = true;
    const before = crl();
    await apply([revoked(1, clock.wallMs() + hourMs)]);
    await publisher.settled();
    expect(crl()).toEqual(before);
    expect(await metric(registry, 'warifu_crl_failures_total')).toBeGreaterThan(0);
    expect(log()).toContain('CKR_DEVICE_ERROR');
    fails = false;
    await until('it is published', async () => listed(crl()).size === 1);
  });

  it('raises an alarm for CRLs past half of their life without a successor, and ends it', async () => {
    const clock = new ManualClock();
    let isThere = true;
    const signer: DigestSigner<'crl'> = {
      ...digestSigner(),
      signDigest: (digest) =>
        isThere ? digestSigner().signDigest(digest) : Promise.reject(new Error('gone')),
    };
    const { publisher, apply, registry, log } = await start(scratch(), clock, { signerOf: () => signer });
    await apply(await opening());
    await publisher.settled();
    expect(await metric(registry, 'warifu_crl_overdue')).toBe(0);
    isThere = false;
    clock.advance(25 * hourMs);
    await apply([]);
    await publisher.settled();
    expect(await metric(registry, 'warifu_crl_overdue')).toBe(1);
    await until('there is an alarm', async () => log().includes('ALARM'));
    isThere = true;
    await until(
      'it is over',
      async () => {
        await publisher.settled();
        return (await metric(registry, 'warifu_crl_overdue')) === 0;
      },
      20_000,
    );
  });

  it('issues by schedule what nothing has happened to, and nothing while the feed says nothing new', async () => {
    const clock = new ManualClock();
    const { publisher, apply, crl } = await start(scratch(), clock);
    await apply(await opening());
    await publisher.settled();
    const before = readCrl(crl()).number;
    clock.advance(25 * hourMs);
    await publisher.settled();
    expect(readCrl(crl()).number).toBe(before);
    await apply([]);
    await publisher.settled();
    expect(readCrl(crl()).number).toBeGreaterThan(before);
  });

  it('publishes on events what it is configured to', async () => {
    const clock = new ManualClock();
    const { publisher, apply, crl, published } = await start(scratch(), clock, { onEvent: 'delta' });
    await apply(await opening());
    await publisher.settled();
    const before = crl();
    const file = deltaPath(join(published, `crl/${shardName}.crl`));
    await apply([revoked(1, clock.wallMs() + hourMs)]);
    await until('the delta lists it', async () => listed(readFileSync(file)).size === 1);
    expect(crl()).toEqual(before);
  });

  it('lists all shards in an index, with addresses, numbers and times', async () => {
    const clock = new ManualClock();
    const { publisher, apply, published, crl } = await start(scratch(), clock);
    await apply(await opening());
    await publisher.settled();
    const index = JSON.parse(readFileSync(join(published, 'crl/index.json'), 'utf8'));
    const complete = readCrl(crl());
    expect(index.shards).toMatchObject([
      {
        shard: shardName,
        authority: 'signing-1',
        complete: {
          path: `/crl/${shardName}.crl`,
          number: Number(complete.number),
          thisUpdate: new Date(complete.thisUpdateMs).toISOString(),
          nextUpdate: new Date(complete.nextUpdateMs).toISOString(),
          octets: complete.der.length,
        },
        delta: { path: `/crl/${shardName}-delta.crl`, baseNumber: Number(complete.number) },
      },
    ]);
  });

  it('waits for the authority of a shard that was received first', async () => {
    const clock = new ManualClock();
    const { publisher, apply, crl } = await start(scratch(), clock);
    const [authority, shard] = await opening();
    await apply([shard as FeedEvent]);
    await publisher.settled();
    expect(() => crl()).toThrow('ENOENT');
    await apply([authority as FeedEvent]);
    await publisher.settled();
    expect(listed(crl()).size).toBe(0);
  });

  it('refuses a record that is no record of its own', () => {
    const file = join(scratch(), 'entries.db');
    writeFileSync(file, 'something else, and long enough to be looked at as a database');
    expect(() => new EntryStore(file)).toThrow('cannot be opened');
    expect(statSync(file).size).toBeGreaterThan(0);
    rmSync(file);
  });
});

describe('the schedule', () => {
  const clock = new ManualClock();
  const schedule = new Schedule({ clock, refreshMs: 24 * hourMs, deltaEveryMs: hourMs / 4 });
  const atMs = Date.UTC(2026, 0, 1);
  const crl = { thisUpdateMs: atMs, nextUpdateMs: atMs + 48 * hourMs, octets: 1, lastModifiedMs: atMs };
  const published = (i: number) => ({
    path: `crl/card-signing/1/13113/${i}.crl`,
    number: atMs + i,
    complete: { ...crl, number: atMs + i },
    base: { ...crl, number: atMs + i },
    delta: { ...crl, number: atMs + i, baseNumber: 1 },
    cursor: { incarnation: 'one', positions: {} },
  });

  it('spreads CRLs that were issued together over the last quarter of their age', () => {
    const due = (hours: number): number =>
      Array.from({ length: 2000 }, (_, i) => schedule.due(published(i), atMs + hours * hourMs)).filter(
        (occasion) => occasion === 'schedule',
      ).length;
    expect(due(17.9)).toBe(0);
    for (const [hours, share] of [
      [19.5, 0.25],
      [21, 0.5],
      [22.5, 0.75],
    ] as const) {
      expect(Math.abs(due(hours) / 2000 - share)).toBeLessThan(0.05);
    }
    expect(due(24)).toBe(2000);
  });

  it('gives each CRL another time each time', () => {
    const first = (number: number): number => {
      let minutes = 0;
      const shard = { ...published(1), base: { ...crl, number } };
      while (schedule.due({ ...shard, delta: null }, atMs + minutes * 60_000) !== 'schedule') minutes += 5;
      return minutes;
    };
    expect(new Set([1, 2, 3, 4, 5, 6].map((n) => first(atMs + n * 86_400_000))).size).toBeGreaterThan(3);
  });
});

describe('the configuration', () => {
  it.each([
    [{ refreshEvery: '25h' }, '/crl/refreshEvery'],
    [{ deltaEvery: '40min' }, '/crl/deltaEvery'],
    [{ deltaValidity: '72h' }, '/crl/deltaValidity'],
    [{ onEvent: 'delta', deltas: false }, '/crl/onEvent'],
  ])('refuses %j, for what is configured must not be an alarm', (crl, what) => {
    expect(() => parseConfig({ crl })).toThrow(what);
    const feed = { url: 'https://ca', key: 'k', cert: 'c', ca: 'a' };
    expect(() => parseCrlNodeConfig({ feed, crl })).toThrow(what);
  });
});

it('two municipalities cannot have one name, for their CRLs would (RFC 5280 §6.3.3)', () => {
  const municipalities = ['27127', '27146'].map((code) => ({
    code,
    prefecture: 'Osaka-fu',
    municipality: 'Kita-ku',
  }));
  expect(() => parseConfig({ municipalities })).toThrow('names a municipality twice');
});

it('metrics are served to Prometheus, and nothing else is', async () => {
  const registry = makeRegistry();
  crlMetrics(registry).overdue.set(3);
  const { address, close } = await serveMetrics(registry, { host: '127.0.0.1', port: 0 }, async () => []);
  try {
    const response = await request(`${address}/metrics`);
    expect(response.headers['content-type']).toContain('text/plain');
    expect(await response.body.text()).toMatch(/^warifu_crl_overdue 3$/m);
    expect((await request(address)).statusCode).toBe(404);
  } finally {
    await close();
  }
});
