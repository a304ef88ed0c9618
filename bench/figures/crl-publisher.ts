// The publisher of the CRL bench, in a process of its own: the real token, record, workers and files; of the record only
// the content is made up. `make` fills it, `run` measures, so that what filling takes is not in the memory of the other.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { pino } from 'pino';
import { performCeremony } from '../../ca/node/ceremony.ts';
import { openNode, signerFor } from '../../ca/node/wiring.ts';
import { distributionPointName } from '../../core/asn1/extension.ts';
import { directoryName, encodeName, uriName } from '../../core/asn1/name.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { FeedEvent, StatusEvent } from '../../core/feed/feed.ts';
import { makeRegistry } from '../../core/http/metrics.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { deltaPath } from '../../crl/encode/names.ts';
import { EntryStore } from '../../crl/entries/entry-store.ts';
import { CrlFollower } from '../../crl/entries/follower.ts';
import { crlMetrics } from '../../crl/publish/metrics.ts';
import { CrlPublisher } from '../../crl/publish/publisher.ts';
import { recordedAuthorities } from '../../store/rules/token-memory.ts';
import { shareOut } from '../load/prefectures.ts';

export interface PublisherOptions {
  readonly folder: string;
  readonly entries: number;
  readonly partitions: number;
  /** Revocations one after the other, on an idle publisher and again while it rebuilds. */
  readonly revocations: number;
}

export interface PublisherSaid {
  readonly entries: number;
  readonly partitions: number;
  readonly firstBuildSeconds: number;
  readonly fullRebuildSeconds: number;
  readonly sha256Seconds: number;
  readonly signSeconds: number;
  readonly incrementalMs: readonly number[];
  readonly incrementalMsDuringRebuild: readonly number[];
  readonly peakMemoryBytes: number;
  /** What the largest CRL lists, as `openssl ca` reads it. */
  readonly octets: number;
}

const authority = 'signing-1';
const day = 86_400_000;

/** Shards and how many of their certificates are revoked; one of all where there is one partition. */
function partsOf({ entries, partitions }: PublisherOptions): { name: string; count: number }[] {
  if (partitions === 1) return [{ name: 'card-signing/1/all/0', count: entries }];
  return shareOut(entries, partitions, 20_000).map(({ prefecture, number, count }) => ({
    name: `card-signing/1/${prefecture}${String(number).padStart(3, '0')}/0`,
    count,
  }));
}

/** Position of a shard's n-th certificate: shards take turns, as holders of all towns do. */
const stride = 30_000;
const positionOf = (shard: number, n: number, shards: number): number =>
  shards === 1 ? n : n * stride + shard;

const reasons = ['affiliationChanged', 'affiliationChanged', 'superseded', 'cessationOfOperation'] as const;

function revoked(shard: string, position: number, nowMs: number): StatusEvent {
  return {
    type: 'status',
    authority,
    epoch: 1,
    position,
    shard,
    change: 'revoked',
    version: 2,
    state: 'revoked',
    reason: reasons[position % reasons.length] ?? 'superseded',
    revokedMs: nowMs - (position % 1000) * day,
    invalidityMs: null,
    notAfterMs: nowMs + (1 + (position % 1800)) * day,
  };
}

const cursor = { incarnation: 'bench', positions: {} };
const silent = { learnt: () => undefined, changed: () => undefined, received: () => undefined };

/** Fills the publisher's record through the follower, as the feed would. */
async function make(options: PublisherOptions): Promise<void> {
  const { folder } = options;
  mkdirSync(folder, { recursive: true });
  await performCeremony({ folder, clock: systemClock });
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  const [recorded] = (await recordedAuthorities(node.database)).filter((row) => row.authority === authority);
  await node.close();
  const certificate = Buffer.from(recorded?.certificate ?? []).toString('base64');
  const key = randomBytes(16);
  writeFileSync(join(folder, 'epoch.key'), key);
  const store = new EntryStore(join(folder, 'crl', 'entries.db'));
  const follower = new CrlFollower({ feed: { epochKey: async () => key }, store, listener: silent });
  const apply = (events: FeedEvent[]): Promise<void> => follower.apply({ events, cursor, watermarkMs: 0 });
  const nowMs = systemClock.wallMs();
  const parts = partsOf(options);
  await apply([{ type: 'authority', authority, certificate }]);
  for (const [i, { name, count }] of parts.entries()) {
    const path = `crl/${name}.crl`;
    const names = [
      directoryName(
        encodeName([
          ['C', 'JP'],
          ['O', 'JPKI-TEST'],
          ['CN', `CRLDP ${name}`],
        ]),
      ),
      uriName(`http://crl.example/${path}`),
    ];
    const point = Buffer.from(distributionPointName(...names)).toString('base64');
    await apply([{ type: 'shard', shard: name, authority, distributionPointName: point, path }]);
    for (let from = 0; from < count; from += 20_000) {
      const length = Math.min(20_000, count - from);
      await apply(
        Array.from({ length }, (_, n) => revoked(name, positionOf(i, from + n, parts.length), nowMs)),
      );
    }
  }
  store.close();
}

function peakOctets(): number {
  const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(match?.[1]) * 1024;
}

/** Seconds that hashing the files takes. */
const hashSeconds = (files: readonly string[]): number =>
  files.reduce((seconds, path) => {
    const file = readFileSync(path);
    const startMs = performance.now();
    digest('sha256', file);
    return seconds + (performance.now() - startMs) / 1000;
  }, 0);

async function run(options: PublisherOptions): Promise<PublisherSaid> {
  const { folder, revocations } = options;
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  const { crl } = node.config;
  const entries = join(folder, 'crl', 'entries.db');
  const published = join(folder, 'published');
  const store = new EntryStore(entries);
  const signer = await signerFor(node, authority, 'rsa2048-sha256', 'crl');
  const publisher = new CrlPublisher({
    store,
    entries,
    folder: published,
    epochKey: async () => new Uint8Array(16),
    signerOf: () => signer,
    clock: systemClock,
    logger: pino({ base: null }, pino.destination(2)),
    metrics: crlMetrics(makeRegistry()),
    workers: crl.workers,
    validityMs: durationMs(crl.validity),
    refreshMs: durationMs(crl.refreshEvery),
    deltas: { validityMs: durationMs(crl.deltaValidity), everyMs: durationMs(crl.deltaEvery) },
    onEvent: crl.onEvent,
    onEventDelayMs: durationMs(crl.onEventDelay),
    deltaIsNamed: true,
    backdateMs: durationMs(crl.backdate),
  });
  const key = readFileSync(join(folder, 'epoch.key'));
  const follower = new CrlFollower({ feed: { epochKey: async () => key }, store, listener: publisher });
  const heartbeat = (events: FeedEvent[] = []): Promise<void> =>
    follower.apply({ events, cursor, watermarkMs: systemClock.wallMs() });
  const timed = async (act: () => Promise<void>): Promise<number> => {
    const startMs = performance.now();
    await act();
    return (performance.now() - startMs) / 1000;
  };
  const firstBuildSeconds = await timed(async () => {
    await heartbeat();
    await publisher.settled();
  });
  const paths = store.shards.map(({ path }) => path);
  const octets = paths.reduce((sum, path) => sum + statSync(join(published, path)).size, 0);
  await pause(1000);
  await heartbeat();
  const fullRebuildSeconds = await timed(() => publisher.rebuild());
  const peakMemoryBytes = peakOctets();
  const revokeOne = incremental(options, published, heartbeat);
  const incrementalMs: number[] = [];
  for (let i = 0; i < revocations; i++) incrementalMs.push(await revokeOne(i));
  const incrementalMsDuringRebuild: number[] = [];
  await heartbeat();
  let rebuilding = true;
  const rebuild = publisher.rebuild().then(() => {
    rebuilding = false;
  });
  for (let i = 0; rebuilding && i < revocations; i++) {
    incrementalMsDuringRebuild.push(await revokeOne(revocations + i));
  }
  await rebuild;
  const hashed = hashSeconds(paths.map((path) => join(published, path)));
  const samples = 2000;
  const signing = await timed(async () => {
    await Promise.all(Array.from({ length: samples }, () => signer.signDigest(randomBytes(32))));
  });
  await publisher.stop();
  store.close();
  await node.close();
  return {
    entries: partsOf(options).reduce((sum, { count }) => sum + count, 0),
    partitions: paths.length,
    firstBuildSeconds,
    fullRebuildSeconds,
    sha256Seconds: hashed,
    signSeconds: (signing * paths.length * 2) / samples,
    incrementalMs,
    incrementalMsDuringRebuild,
    peakMemoryBytes,
    octets,
  };
}

/** Revokes one more certificate of one shard, and sees how long it takes until its CRL and its delta are replaced. */
function incremental(
  options: PublisherOptions,
  published: string,
  apply: (events: FeedEvent[]) => Promise<void>,
): (n: number) => Promise<number> {
  const parts = partsOf(options);
  return async (n) => {
    const shard = (n * 37) % parts.length;
    const part = parts[shard];
    if (!part) throw new Error('no such shard');
    const file = join(published, `crl/${part.name}.crl`);
    const inodes = () => [file, deltaPath(file)].map((each) => statSync(each).ino);
    const before = inodes();
    const position = positionOf(shard, part.count + 1 + n, parts.length);
    const startMs = performance.now();
    await apply([revoked(part.name, position, systemClock.wallMs())]);
    while (inodes().some((inode, i) => inode === before[i])) await pause(1);
    return performance.now() - startMs;
  };
}

const [what, text = '{}'] = process.argv.slice(2);
const options = JSON.parse(text) as PublisherOptions;
if (what === 'make') {
  await make(options);
  process.stdout.write(`${JSON.stringify('made')}\n`);
} else process.stdout.write(`${JSON.stringify(await run(options))}\n`);
process.exit();
