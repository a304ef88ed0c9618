import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { dirname } from 'node:path';

export type Figures = Readonly<Record<string, number | boolean | string>>;

/** One run of a bench, as it is remembered. */
export interface Run {
  readonly at: string;
  readonly bench: string;
  /** What it was asked for: runs are compared with runs of the same. */
  readonly options: string;
  readonly machine: Machine;
  readonly figures: Figures;
}

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
}

export const machine = (): Machine => ({
  processor: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  system: `${process.platform} ${release()}`,
  node: process.version,
});

const file = new URL('../../node_modules/.cache/bench-history.ndjson', import.meta.url).pathname;

/** Remembers a run; gives those of the same bench with the same options before it, the oldest first. */
export function remember(run: Run): Run[] {
  const before = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
  mkdirSync(dirname(file), { recursive: true });
  appendFileSync(file, `${JSON.stringify(run)}\n`);
  return before
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Run)
    .filter(({ bench, options }) => bench === run.bench && options === run.options);
}
