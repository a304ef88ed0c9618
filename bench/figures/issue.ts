import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { readConfig } from '../../ca/config/config.ts';
import { createAuthority, performCeremony } from '../../ca/node/ceremony.ts';
import { layout } from '../../ca/node/layout.ts';
import { openNode } from '../../ca/node/wiring.ts';
import type { SuiteName } from '../../core/asn1/algorithms.ts';
import { slots } from '../../core/model/kinds.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { configure, freePort, startProcess, startSignerProcess } from '../../test/support/service-process.ts';
import { median, spawnOn } from '../load/measure.ts';
import { benchPostgres } from '../load/postgres.ts';
import { tell } from '../report/told.ts';
import type { RawSign } from './ceilings.ts';
import type { IssueSuite } from './issue-lines.ts';
import type { LoadOrder, LoadReport } from './issue-load.ts';
import { populate } from './issue-record.ts';
import { allCores, IssuingLoad, type Load, makeLines, script, warmUpSeconds } from './issue-service.ts';

export interface IssueOptions {
  readonly suite: IssueSuite;
  readonly rounds: number;
  readonly seconds: number;
  /** Certificates on record before anything is measured. */
  readonly onRecord: number;
  /** Where the CA's keys are used: see `pkcs11.isolation`. */
  readonly isolation: 'threads' | 'processes' | 'signer';
  /** See `issuing.primeModuli`: with RSA the check is most of the work. */
  readonly primeModuli: 'refused' | 'not-tried';
  readonly database: 'sqlite' | 'postgres';
}

const suiteNames: Readonly<Record<IssueSuite, SuiteName>> = {
  rsa2048: 'rsa2048-sha256',
  p384: 'p384-sha384',
};
const idlePairs = 100;
/** Pairs a second through the API, and what the same cores can sign. */
export async function benchIssue(options: IssueOptions): Promise<Record<string, number>> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-issue-'));
  try {
    return await measure(options, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function measure(options: IssueOptions, scratch: string): Promise<Record<string, number>> {
  const { suite, rounds, seconds } = options;
  const folder = join(scratch, 'data');
  const { isolation, primeModuli } = options;
  const metricsPort = await freePort();
  if (options.database === 'postgres' && options.onRecord > 0)
    throw new RangeError('--on-record fills a file: not with --database postgres');
  using postgres = options.database === 'postgres' ? await benchPostgres() : undefined;
  const addresses = await configure(folder, {
    ...{ pkcs11: { isolation }, issuing: { primeModuli }, metrics: { host: '127.0.0.1', port: metricsPort } },
    ...postgres?.configure(folder),
  });
  const recordOctets = (): Promise<number> => postgres?.octets() ?? Promise.resolve(recordSize(folder));
  await performCeremony({ folder, clock: systemClock });
  if (suite === 'p384') await addGeneration(folder, suiteNames.p384);
  if (options.onRecord > 0) populate(layout(folder).record, options.onRecord);
  const raw = { folder, suite: suiteNames[suite], generation: suite === 'p384' ? 2 : 1 };
  const file = join(scratch, 'lines.ndjson');
  const perSecond = suite === 'rsa2048' ? 1300 : 500;
  const each = Math.ceil(perSecond * (seconds + warmUpSeconds));
  const count = rounds * 2 * each + idlePairs + perSecond * 12;
  writeFileSync(file, await makeLines(suite, count));
  const signer = isolation === 'signer' ? await startSignerProcess(folder) : undefined;
  const service = await startProcess(folder, addresses);
  const signerPid = signer?.child.pid;
  const issuing = new IssuingLoad({ folder, service, signerPid, metricsPort, file, count: each, seconds });
  const load = (order: Partial<LoadOrder>): Promise<Load> => issuing.run(order);
  await load({ seconds: 3 });
  const [raws, ceilings, batches, singles]: [number[], number[], Load[], Load[]] = [[], [], [], []];
  const sizeBefore = await recordOctets();
  const usedBefore = issuing.used;
  const databaseMicros: number[] = [];
  for (let round = 0; round < rounds; round++) {
    tell(`issuing, round ${round + 1} of ${rounds}`);
    raws.push(await onAllCores('raw-sign', raw, 2));
    const busyBefore = postgres?.cpuMicros() ?? 0;
    const batch = await load({});
    batches.push(batch);
    if (postgres) databaseMicros.push((postgres.cpuMicros() - busyBefore) / batch.used);
    ceilings.push(await onAllCores('pair', raw, 2));
    singles.push(await load({ mode: 'single' }));
  }
  const bytesPerPair = ((await recordOctets()) - sizeBefore) / (issuing.used - usedBefore);
  const idle = await load({
    mode: 'single',
    connections: 1,
    count: idlePairs,
    seconds: 60,
    warmUpSeconds: 0.1,
  });
  const fsyncs = {
    batch: await fsyncsPerPair(service.child.pid ?? 0, () => load({ seconds: 3 })),
    single: await fsyncsPerPair(service.child.pid ?? 0, () => load({ seconds: 3, mode: 'single' })),
  };
  await service.stop();
  await signer?.stop();
  return {
    onRecord: options.onRecord,
    bytesPerPair,
    ...(postgres ? { databaseCpuMicrosPerPair: median(databaseMicros) } : {}),
    ...figures({ raws, ceilings, batches, singles, idle, fsyncs }),
  };
}

/** What was measured, as it is reported: medians, and ratios to what limits them. */
function figures(of: {
  readonly raws: readonly number[];
  readonly ceilings: readonly number[];
  readonly batches: readonly Load[];
  readonly singles: readonly Load[];
  readonly idle: LoadReport;
  readonly fsyncs: { readonly batch: number; readonly single: number };
}): Record<string, number> {
  const { raws, ceilings, batches, singles, idle, fsyncs } = of;
  const [rawSign, ceiling] = [median(raws), median(ceilings)];
  const rate = (loads: readonly Load[]) => median(loads.map(({ pairs, seconds: took }) => pairs / took));
  const [batch, single] = [rate(batches), rate(singles)];
  const perPair = (what: 'serverMicros' | 'cpuMicros' | 'recordMicros', of: readonly Load[]) =>
    median(of.map((run) => run[what] / run.used));
  return {
    pairsPerSecond: batch,
    rawSignPerSecond: rawSign,
    pairsToRawSign: (2 * batch) / rawSign,
    pairsPerSecondSingle: single,
    singleToRawSign: (2 * single) / rawSign,
    ceilingPairsPerSecond: ceiling,
    pairsToCeiling: batch / ceiling,
    p50Ms: median(singles.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(singles.map(({ p99Ms }) => p99Ms)),
    idleP50Ms: idle.p50Ms,
    idleToRawPair: idle.p50Ms / ((2 * cpus().length * 1000) / rawSign),
    fsyncsPerPair: fsyncs.batch,
    fsyncsPerPairSingle: fsyncs.single,
    recordMicrosPerPair: perPair('recordMicros', batches),
    serverCpuMicrosPerPair: perPair('serverMicros', batches),
    serverCpuMicrosPerPairSingle: perPair('serverMicros', singles),
    clientCpuMicrosPerPair: perPair('cpuMicros', batches),
  };
}

async function addGeneration(folder: string, suite: SuiteName): Promise<void> {
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  for (const slot of slots) await createAuthority(node, slot, 2, suite);
  await node.close();
}

/** A process for each core; the sum of what they say. */
async function onAllCores(
  what: 'raw-sign' | 'pair',
  of: { folder: string; suite: SuiteName; generation: number },
  seconds: number,
): Promise<number> {
  const paths = layout(of.folder);
  const { caToken } = readConfig(paths.config).pkcs11;
  const order: RawSign = {
    softhsm: paths.softhsm,
    tokenLabel: caToken.label,
    pinFile: paths.pin(caToken.pinFile),
    keyLabel: `signing-${of.generation}`,
    suite: of.suite,
    seconds,
  };
  const args = [what, JSON.stringify(order)];
  const said = await Promise.all(
    cpus().map((_, core) => script<number>('./ceilings.ts', args, String(core))),
  );
  return said.reduce((sum, one) => sum + one, 0);
}

/** Octets of the record's file once everything is in it. */
function recordSize(folder: string): number {
  const { record } = layout(folder);
  const database = new DatabaseSync(record, { timeout: 5000 });
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  database.close();
  return statSync(record).size;
}

/** Counts what the service asks the kernel to bring to disk. */
async function fsyncsPerPair(pid: number, act: () => Promise<LoadReport>): Promise<number> {
  const report = join(tmpdir(), `warifu-strace-${process.pid}`);
  const trace = spawnOn(allCores, 'strace', [
    '-f',
    '-q',
    '-e',
    'trace=fsync,fdatasync',
    '-o',
    report,
    '-p',
    String(pid),
  ]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { used } = await act();
  trace.kill('SIGINT');
  await new Promise((resolve) => trace.once('exit', resolve));
  const calls = readFileSync(report, 'utf8')
    .split('\n')
    .filter((line) => / (fsync|fdatasync)\(/.test(line)).length;
  rmSync(report);
  return calls / used;
}
