import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CaClient } from '../../ca/client/client.ts';
import { layout } from '../../ca/node/layout.ts';
import { namedClient } from '../../test/support/actors.ts';
import { configure, freePort, startProcess } from '../../test/support/service-process.ts';
import { median } from '../load/measure.ts';
import { holderOfRow, populate, rowsOfPair } from './issue-record.ts';
import { IssuingLoad, makeLines, warmUpSeconds } from './issue-service.ts';

export interface FullOptions {
  /** Rows on record of one service, made in bulk; the other has none. */
  readonly rows: number;
  readonly rounds: number;
  readonly seconds: number;
}

/** Octets of disk that the rows take, with what building their indexes needs meanwhile. */
const roomFor = (rows: number): number => Math.max(2 ** 30, rows * 400);

/** An epoch that the service has, and positions that it will not come to. */
const behindAll = { epoch: 1, firstPosition: 2 ** 39 };
const perSecond = 100;
/** Until what the load has left is settled, and how many requests of each kind do not count. */
const [restMs, warmUps] = [5000, 100];
/** Pairs a second that a run may need lines for. */
const linesPerSecond = 1000;

/**
 * What a full record costs: pairs a second with and without it, in turn; how long the service takes to start; and how long look-ups,
 * events and pages of renewals take, at a hundred a second of each, while nothing else is done. undefined, with a message,
 * where the disk has no room for it.
 */
export async function benchFull(options: FullOptions): Promise<Record<string, number> | undefined> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-full-'));
  try {
    const { bavail, bsize } = statfsSync(scratch);
    const wanted = roomFor(options.rows);
    if (bavail * bsize >= wanted) return await measure(options, scratch);
    const [free, needed] = [bavail * bsize, wanted].map((octets) => Math.round(octets / 1e9));
    process.stderr.write(`skipped: ${options.rows} rows need ${needed} GB of disk, and ${free} are free\n`);
    return undefined;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function measure(
  { rows, rounds, seconds }: FullOptions,
  scratch: string,
): Promise<Record<string, number>> {
  const pairs = Math.ceil(rows / rowsOfPair);
  const count = Math.ceil(linesPerSecond * (seconds + warmUpSeconds));
  const file = join(scratch, 'lines.ndjson');
  writeFileSync(file, await makeLines('rsa2048', count * (rounds + 1)));
  const start = async (name: string, onRecord: number) => {
    const folder = join(scratch, name);
    const metricsPort = await freePort();
    const addresses = await configure(folder, {
      ...{ issuing: { primeModuli: 'not-tried' }, metrics: { host: '127.0.0.1', port: metricsPort } },
    });
    // The first start performs the ceremony.
    await (await startProcess(folder, addresses)).stop();
    const populatingMs = performance.now();
    if (onRecord > 0) populate(layout(folder).record, onRecord, behindAll);
    const startingMs = performance.now();
    const service = await startProcess(folder, addresses);
    process.once('exit', () => service.child.kill('SIGKILL'));
    const startSeconds = (performance.now() - startingMs) / 1000;
    const load = new IssuingLoad({ folder, service, metricsPort, file, count, seconds });
    return { folder, service, load, startSeconds, populateSeconds: (startingMs - populatingMs) / 1000 };
  };
  const empty = await start('empty', 0);
  const full = await start('full', 2 * pairs);
  const rates: Record<'empty' | 'full', number[]> = { empty: [], full: [] };
  for (const { load } of [empty, full]) await load.run({ seconds: 2 });
  for (let round = 0; round < rounds; round++)
    for (const [name, { load }] of Object.entries({ empty, full })) {
      const { pairs: done, seconds: took } = await load.run();
      rates[name as keyof typeof rates].push(done / took);
    }
  await empty.service.stop();
  const api = namedClient(full.folder, full.service.addresses.api, 'first');
  const times = await latencies(api, { pairs, issued: full.load.used, seconds });
  await api.close();
  await full.service.stop();
  return {
    rows: pairs * rowsOfPair,
    certificates: 2 * pairs,
    populateSeconds: full.populateSeconds,
    startSeconds: full.startSeconds,
    startSecondsEmpty: empty.startSeconds,
    pairsPerSecondEmpty: median(rates.empty),
    pairsPerSecondFull: median(rates.full),
    onRecordToEmpty: median(rates.full) / median(rates.empty),
    ...times,
  };
}

/** Each kind of request by itself: half of them and 99 of 100 are answered within so many milliseconds of when they were due. */
async function latencies(
  api: CaClient,
  { pairs, issued, seconds }: { readonly pairs: number; readonly issued: number; readonly seconds: number },
): Promise<Record<string, number>> {
  let next: string | null = null;
  const kinds: Readonly<Record<string, (i: number) => Promise<{ status: number; body: object }>>> = {
    // All over the record.
    lookup: (i) => api.get(`/holders/${holderOfRow(Math.floor((i * 0.618034 * pairs) % pairs), pairs)}`),
    // Page by page, from the beginning again where there are no more.
    renewals: async () => {
      const page = await api.get<{ next: string | null }>(
        `/renewals?days=90${next === null ? '' : `&after=${encodeURIComponent(next)}`}`,
      );
      next = page.body.next;
      return page;
    },
    // Last: lists are published after them.
    event: (i) => api.post('/events', { event: 'card-lost', cardId: `c-${i}` }),
  };
  const figures: Record<string, number> = {};
  await new Promise((resolve) => setTimeout(resolve, restMs));
  for (const [kind, act] of Object.entries(kinds)) {
    const times: number[] = [];
    const wanted = Math.min(
      perSecond * seconds + warmUps,
      kind === 'event' ? issued : Number.POSITIVE_INFINITY,
    );
    const startMs = performance.now();
    const asked: Promise<void>[] = [];
    for (let i = 0; i < wanted; i++) {
      const dueMs = startMs + (i * 1000) / perSecond;
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      asked.push(
        act(i).then(({ status, body }) => {
          if (status >= 300) throw new Error(`${kind}: ${status} ${JSON.stringify(body)}`);
          if (i >= warmUps) times.push(performance.now() - dueMs);
        }),
      );
    }
    await Promise.all(asked);
    times.sort((a, b) => a - b);
    figures[`${kind}MsP50`] = median(times);
    figures[`${kind}MsP99`] = times[Math.floor(times.length * 0.99)] ?? 0;
  }
  return figures;
}
