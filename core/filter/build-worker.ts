import { parentPort, workerData } from 'node:worker_threads';
import { giveWay } from '../workers/worker.ts';
import { type BuildOptions, buildShards } from './build.ts';

// Builds the shards of one part of a filter, and ends.

const { niceness, ...options } = workerData as BuildOptions & { readonly niceness: number };
giveWay(niceness);
parentPort?.postMessage(buildShards(options));
