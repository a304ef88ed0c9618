import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { ServiceProcess } from '../../test/support/service-process.ts';
import { cpuMicros, outputOf, spawnOn } from '../load/measure.ts';
import type { IssueSuite, LinesWanted } from './issue-lines.ts';
import type { LoadOrder, LoadReport } from './issue-load.ts';

/** Of each run, what does not count. */
export const warmUpSeconds = 1;

/** For `spawnOn`. */
export const allCores = cpus()
  .map((_, core) => core)
  .join();

/** What is asked of a service: of which the lines in `file` are used one after the other. */
export interface IssuingOf {
  readonly folder: string;
  readonly service: ServiceProcess;
  /** Where the CA's keys are a signer's. */
  readonly signerPid?: number | undefined;
  readonly metricsPort: number;
  /** NDJSON of BatchLines. */
  readonly file: string;
  /** Lines of one run, and its length without the warm-up. */
  readonly count: number;
  readonly seconds: number;
  /** The first line that is used. */
  readonly first?: number;
}

/** Loads one service with pairs, run by run. */
export class IssuingLoad {
  readonly #of: IssuingOf;
  #used: number;

  constructor(of: IssuingOf) {
    this.#of = of;
    this.#used = of.first ?? 0;
  }

  /** Lines that were used so far, from the first of the file on. */
  get used(): number {
    return this.#used;
  }

  async run(order: Partial<LoadOrder> = {}): Promise<Load> {
    const { folder, service, metricsPort, file, count, seconds } = this.#of;
    const { signerPid } = this.#of;
    const used = (): number =>
      serviceMicros(service.child.pid ?? 0) + (signerPid === undefined ? 0 : cpuMicros(signerPid));
    const before = used();
    const recordBefore = await recordFigures(metricsPort);
    const full: LoadOrder = {
      ...{ mode: 'batch', folder, address: service.addresses.api, file, first: this.#used, count },
      ...{ connections: 64, seconds: seconds + warmUpSeconds, warmUpSeconds, ...order },
    };
    const report = await script<LoadReport>('./issue-load.ts', [JSON.stringify(full)]);
    this.#used += report.used;
    const serverMicros = used() - before;
    const record = await recordFigures(metricsPort);
    return {
      ...{ ...report, serverMicros, recordMicros: record.micros - recordBefore.micros },
      flushes: record.flushes - recordBefore.flushes,
    };
  }
}

/** CPU time of the service and of its signing processes. */
function serviceMicros(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  const pids = [pid, ...children.filter((child) => child !== '').map(Number)];
  return pids.reduce((sum, each) => sum + cpuMicros(each), 0);
}

/** Processor time that the record has taken so far, and how often its server was waited for, as the service says. */
async function recordFigures(port: number): Promise<{ readonly micros: number; readonly flushes: number }> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const value = (name: string): number =>
    Number(new RegExp(`^warifu_record_${name}_total ([\\d.e+-]+)$`, 'm').exec(text)?.[1] ?? 0);
  return { micros: value('busy_seconds') * 1e6, flushes: value('flushes') };
}

export type Load = LoadReport & { serverMicros: number; recordMicros: number; flushes: number };

/** Lines of a batch, made on all cores. */
export async function makeLines(suite: IssueSuite, count: number): Promise<string> {
  const share = Math.ceil(count / cpus().length);
  const parts = cpus().map(
    (_, core) =>
      new Promise<string>((resolve, reject) => {
        const workerData: LinesWanted = { suite, first: core * share, count: share };
        const worker = new Worker(new URL('./issue-lines.ts', import.meta.url), { workerData });
        worker.once('message', resolve).once('error', reject);
      }),
  );
  return `${(await Promise.all(parts)).join('\n')}\n`;
}

/** Runs a script of ours to its end; what it said. */
export async function script<T>(name: string, args: readonly string[], core = allCores): Promise<T> {
  const file = new URL(name, import.meta.url).pathname;
  return JSON.parse(await outputOf(spawnOn(core, process.execPath, [file, ...args]))) as T;
}
