import { durationMs } from '../../core/config/duration.ts';
import type { CrlOptions } from '../config/options.ts';

// The entry of a listening thread: it serves the published folder, and knows nothing of how that comes to be.

import { parentPort, workerData } from 'node:worker_threads';
import { pino } from 'pino';
import { Verifiers } from '../../core/config/verifiers.ts';
import { closeServer, listen } from '../../core/http/listen.ts';
import { shiftedClock, systemClock } from '../../core/runtime/clock.ts';
import { faultLog } from '../../core/runtime/fault-log.ts';
import { type Closing, giveWay, serveRequests } from '../../core/workers/worker.ts';
import { PublishedFiles } from './files.ts';
import type { ListenerMessage, ListenerStart } from './listener-messages.ts';
import { CrlServer } from './server.ts';

const { folder, config, shift, niceness } = workerData as ListenerStart;
giveWay(niceness);
const clock = shift ? shiftedClock(shift) : systemClock;

const failed = faultLog(pino({ base: null }, pino.destination(2)), clock, 'a published file cannot be given');
const verifiers = new Verifiers(config.verifiers);
const server = new CrlServer({
  files: new PublishedFiles({ folder, octetsMax: config.cacheBytes, clock, failed }),
  verifiers,
  clock,
  connectionsMax: config.connectionsMax,
  cacheAgeMsMax: cacheAgeMsMax(config),
  failed,
});
const listening = server.create(config.port);

/** Default: the interval of delta CRLs, because a cache that keeps a CRL longer hides newer revocations. */
function cacheAgeMsMax({ cacheAgeMax, deltas, deltaEvery }: CrlOptions): number | null {
  if (cacheAgeMax !== undefined) return durationMs(cacheAgeMax);
  return deltas ? durationMs(deltaEvery) : null;
}

serveRequests<ListenerMessage, void>(parentPort, async (message: ListenerMessage | Closing) => {
  if (message.type === 'listen') {
    await listen(listening, config.host, config.port, config.threads > 1 ? 'shared' : 'alone');
    return;
  }
  if (message.type === 'verifiers') {
    verifiers.replace(message.verifiers);
    return;
  }
  const closing = closeServer(listening);
  server.close();
  await closing;
});
