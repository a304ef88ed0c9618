import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ClusterNode,
  makeCluster,
  startFirst,
  startFurther,
  stopNode,
} from '../../test/support/cluster.ts';
import {
  configure,
  freePort,
  type ServiceProcess,
  startProcess,
} from '../../test/support/service-process.ts';
import { median, startScript } from '../load/measure.ts';
import { benchPostgres } from '../load/postgres.ts';
import { tell } from '../report/told.ts';
import { IssuingLoad, type Load, makeLines, warmUpSeconds } from './issue-service.ts';

export interface DatabasesOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly nodes: number;
  /** Milliseconds between node and database; 0 for none. */
  readonly rtt: number;
  readonly primeModuli: 'refused' | 'not-tried';
}

/** A service whose pairs are counted: of one node, or of several that are loaded at the same time. */
interface Subject {
  readonly loads: readonly IssuingLoad[];
}

/** Pairs that one service issues in a second at most, for how many lines are made. */
const pairsPerSecondMost = 1300;

/**
 * The same load on a file and on PostgreSQL, in turn, so that a machine that slows down slows both; and on PostgreSQL behind a network. All of
 * it on the same cores.
 */
export async function benchDatabases(options: DatabasesOptions): Promise<Record<string, number | string>> {
  const { rounds, seconds, nodes, rtt } = options;
  // Of a bench before: each service has tokens of its own.
  delete process.env.SOFTHSM2_CONF;
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-databases-'));
  await using opened = new AsyncDisposableStack();
  opened.defer(() => rmSync(scratch, { recursive: true, force: true }));
  const postgres = opened.use(await benchPostgres());
  const each = Math.ceil(pairsPerSecondMost * (seconds + warmUpSeconds));
  const file = join(scratch, 'lines.ndjson');
  writeFileSync(file, await makeLines('rsa2048', (rounds + 1) * each));
  const of = { file, count: each, seconds };
  const sqlite = await onFile(join(scratch, 'sqlite'), options, of, opened);
  const direct = await onServer(await postgres.place('direct'), { ...options, of }, opened);
  const behind = rtt > 0 ? await behindNetwork(postgres, { ...options, of }, opened) : undefined;
  const results: { sqlite: Load[][]; direct: Load[][]; behind: Load[][] } = {
    sqlite: [],
    direct: [],
    behind: [],
  };
  for (const subject of [sqlite, direct, behind]) if (subject) await loaded(subject, 2);
  for (let round = 0; round < rounds; round++) {
    tell(`databases, round ${round + 1} of ${rounds}`);
    results.sqlite.push(await loaded(sqlite));
    results.direct.push(await loaded(direct));
    if (behind) results.behind.push(await loaded(behind));
  }
  const [onFileRate, directRate] = [rateOf(results.sqlite), rateOf(results.direct)];
  return {
    ...{ database: 'postgres', nodes },
    roundTripsPerPair: median(results.direct.map(flushesPerPair)),
    pairsPerSecondSqlite: onFileRate,
    pairsPerSecondPostgres: directRate,
    pairsToSqlite: directRate / onFileRate,
    ...(behind
      ? {
          rttMs: rtt,
          roundTripsPerPairBehindNetwork: median(results.behind.map(flushesPerPair)),
          pairsToNoLatency: rateOf(results.behind) / directRate,
        }
      : {}),
  };
}

const rateOf = (rounds: readonly (readonly Load[])[]): number =>
  median(rounds.map((loads) => loads.reduce((sum, { pairs, seconds }) => sum + pairs / seconds, 0)));

const flushesPerPair = (loads: readonly Load[]): number => {
  const sum = (what: 'flushes' | 'used'): number => loads.reduce((total, load) => total + load[what], 0);
  return sum('flushes') / sum('used');
};

const loaded = ({ loads }: Subject, seconds?: number): Promise<Load[]> =>
  Promise.all(loads.map((load) => load.run(seconds === undefined ? {} : { seconds })));

interface Lines {
  readonly file: string;
  readonly count: number;
  readonly seconds: number;
}

async function onFile(
  folder: string,
  { primeModuli }: DatabasesOptions,
  of: Lines,
  opened: AsyncDisposableStack,
): Promise<Subject> {
  const metricsPort = await freePort();
  const addresses = await configure(folder, {
    ...{ issuing: { primeModuli }, metrics: { host: '127.0.0.1', port: metricsPort } },
  });
  const service = await startProcess(folder, addresses);
  opened.defer(() => service.stop());
  return { loads: [new IssuingLoad({ ...of, folder, service, metricsPort })] };
}

async function onServer(
  place: { readonly record: object; readonly password: string },
  { primeModuli, nodes, of }: DatabasesOptions & { readonly of: Lines },
  opened: AsyncDisposableStack,
): Promise<Subject> {
  const cluster = await makeCluster({ issuing: { primeModuli }, pkcs11: {}, crl: { workers: 3 } }, place);
  const ports = [await freePort()];
  const own = (port: number) => ({ metrics: { host: '127.0.0.1', port } });
  const first = await startFirst(cluster, 'ca-1', own(ports[0] as number));
  const all: ClusterNode[] = [first];
  opened.defer(async () => {
    for (const node of all.reverse()) await stopNode(node);
  });
  for (let number = 2; number <= nodes; number++) {
    ports.push(await freePort());
    all.push(await startFurther(cluster, first, `ca-${number}`, own(ports.at(-1) as number)));
  }
  const share = Math.floor(of.count / nodes);
  // Each node has lines of its own, so that none is issued to twice.
  const loadOf = (service: ServiceProcess, at: number): IssuingLoad =>
    new IssuingLoad({
      ...{ ...of, folder: first.folder, service, metricsPort: ports[at] as number },
      ...{ count: share, first: at * share * 8 },
    });
  return { loads: all.map(({ service }, at) => loadOf(service, at)) };
}

async function behindNetwork(
  postgres: Awaited<ReturnType<typeof benchPostgres>>,
  options: DatabasesOptions & { readonly of: Lines },
  opened: AsyncDisposableStack,
): Promise<Subject> {
  const script = new URL('../load/latency-proxy.ts', import.meta.url);
  const args = [String(postgres.port), String(options.rtt)];
  const { child, said: port } = await startScript<number>('0,1', script, args);
  opened.defer(() => void child.kill());
  return onServer(await postgres.place('behind', port), options, opened);
}
