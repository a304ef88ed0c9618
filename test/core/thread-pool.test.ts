import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { ThreadPool } from '../../core/workers/thread-pool.ts';
import { fileOf, removeScratch } from '../support/harness.ts';

afterAll(removeScratch);

/** A pool of two threads that load for a while, and count themselves once they have. */
function slowPool(onLoad = '') {
  const loaded = new Int32Array(new SharedArrayBuffer(8));
  const source = `import { workerData } from 'node:worker_threads';
    Atomics.wait(workerData, 1, 0, 200);
    ${onLoad}
    Atomics.add(workerData, 0, 1);
    export default () => process.exit();`;
  const filename = pathToFileURL(fileOf(source, 'slow.mjs'));
  const pool = new ThreadPool<null, null>({ filename, threads: 2, tasksPerThread: 1, workerData: loaded });
  return { pool, loaded };
}

describe('a pool of threads', () => {
  it.each(['close', 'destroy'] as const)('ends none that still loads, by %s', async (end) => {
    const { pool, loaded } = slowPool();
    await pool[end]();
    expect([loaded[0], pool.threads.length]).toEqual([2, 0]);
  });

  it('waits also for the one that took the place of one that died', async () => {
    const { pool, loaded } = slowPool();
    await expect(pool.run(null)).rejects.toThrow();
    await expect.poll(() => pool.threads.length).toBe(2);
    await pool.destroy();
    expect(loaded[0]).toBe(3);
  });

  it('ends where its threads cannot load', async () => {
    const { pool } = slowPool("throw new Error('no');");
    const errors: string[] = [];
    pool.on('error', ({ message }: Error) => errors.push(message));
    await pool.destroy();
    expect([pool.threads.length, errors[0]]).toEqual([0, 'no']);
  });
});
