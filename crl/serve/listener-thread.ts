import { durationMs } from '../../core/config/duration.ts';
import type { CrlOptions } from '../config/options.ts';

// The entry of a listening thread: it serves the published folder, and knows nothing of how that comes to be.

import { parentPort, workerData } from 'node:worker_threads';
import { verifierRules } from '../../core/config/verifiers.ts';
import { verifierTlsMin } from '../../core/http/fast-path-server.ts';
import { closeServer, listen } from '../../core/http/listen.ts';
import { VerifierRegister } from '../../core/http/verifier-register.ts';
import { shiftedClock, systemClock } from '../../core/runtime/clock.ts';
import { faultLog } from '../../core/runtime/fault-log.ts';
import { threadLog } from '../../core/runtime/thread-log.ts';
import { type Closing, giveWay, serveRequests } from '../../core/workers/worker.ts';
import { PublishedFiles } from './files.ts';
import type { ListenerMessage, ListenerStart } from './listener-messages.ts';
import { CrlServer } from './server.ts';

const { folder, config, tls, shift, niceness } = workerData as ListenerStart;
giveWay(niceness);
const clock = shift ? shiftedClock(shift) : systemClock;

const failed = faultLog(threadLog(), clock, 'a published file cannot be given');
let { required } = config.verifiers;
const { threads } = config;
const verifiers = new VerifierRegister({ rules: verifierRules(config.verifiers), clock, threads });
const server = new CrlServer({
  files: new PublishedFiles({ folder, octetsMax: config.cacheBytes, clock, failed }),
  verifiers,
  isPrivate: () => required,
  fromFront: config.verifiers.fromFront,
  clock,
  connectionsMax: config.connectionsMax,
  cacheAgeMsMax: cacheAgeMsMax(config),
  failed,
});
const { tls: at } = config.verifiers;
const overTls = at && tls ? { server: server.createTls(at.port, tls), port: at.port } : null;
const listening = [
  { server: server.create(config.port), port: config.port },
  ...(overTls === null ? [] : [overTls]),
];

/** Default: the interval of delta CRLs, because a cache that keeps a CRL longer hides newer revocations. */
function cacheAgeMsMax({ cacheAgeMax, deltas, deltaEvery }: CrlOptions): number | null {
  if (cacheAgeMax !== undefined) return durationMs(cacheAgeMax);
  return deltas ? durationMs(deltaEvery) : null;
}

serveRequests<ListenerMessage, void>(parentPort, async (message: ListenerMessage | Closing) => {
  switch (message.type) {
    case 'listen':
      for (const { server, port } of listening)
        await listen(server, config.host, port, threads > 1 ? 'shared' : 'alone');
      return;
    case 'rules':
      required = message.rules.required;
      verifiers.setRules(verifierRules(message.rules));
      if (message.tls) overTls?.server.setSecureContext({ ...message.tls, minVersion: verifierTlsMin });
      return;
    case 'verifiers':
      for (const each of message.verifiers) verifiers.update(each);
      return;
    case 'close': {
      const closing = listening.map(({ server }) => closeServer(server));
      server.close();
      await Promise.all(closing);
    }
  }
});
