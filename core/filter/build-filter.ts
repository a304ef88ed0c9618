import { Worker } from 'node:worker_threads';
import { PkiError } from '../runtime/errors.ts';
import type { BuildOptions, BuiltShard, Run } from './build.ts';
import { planOf } from './build.ts';
import { encodeShards } from './filter.ts';

/** The tables of a filter, encoded, with their numbers. */
export interface BuiltFilter {
  readonly columns: number;
  readonly shards: number;
  readonly body: Buffer;
}

const bitsIn = new Uint8Array(256).map((_, octet) => octet.toString(2).replaceAll('0', '').length);

function countOf(runs: readonly Run[]): { total: number; revoked: number } {
  let [total, revoked] = [0, 0];
  for (const run of runs) {
    total += run.count;
    for (const octet of run.revoked) revoked += bitsIn[octet] ?? 0;
  }
  return { total, revoked };
}

/**
 * Builds a filter in so many threads, each of which makes a part of the shards. The memory of runs is shared where it can be. Rejects with
 * `internal` where a thread fails, or the signal says so.
 */
export async function buildFilter(
  runs: readonly Run[],
  {
    threads,
    niceness,
    signal,
  }: { readonly threads: number; readonly niceness: number; readonly signal?: AbortSignal },
): Promise<BuiltFilter> {
  const { total, revoked } = countOf(runs);
  const plan = planOf(total, revoked);
  const parts = Math.min(threads, plan.shards);
  const built = await Promise.all(
    Array.from({ length: parts }, (_, part) => buildPart({ runs, ...plan, part, parts }, niceness, signal)),
  );
  const shards = Array.from({ length: plan.shards }, (_, shard) => {
    const found = built[shard % parts]?.[Math.floor(shard / parts)];
    if (!found) throw new PkiError('internal', 'a part of the filter is missing');
    return found;
  });
  return { ...plan, body: encodeShards(shards) };
}

function buildPart(
  options: BuildOptions,
  niceness: number,
  signal: AbortSignal | undefined,
): Promise<readonly BuiltShard[]> {
  const built = Promise.withResolvers<readonly BuiltShard[]>();
  const worker = new Worker(new URL('./build-worker.ts', import.meta.url), {
    workerData: { ...options, niceness },
  });
  const stop = (): void => void worker.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  worker.once('message', built.resolve);
  worker.once('error', built.reject);
  worker.once('exit', () => {
    signal?.removeEventListener('abort', stop);
    built.reject(new PkiError('internal', 'a thread that builds a filter has ended'));
  });
  if (signal?.aborted) stop();
  return built.promise;
}
