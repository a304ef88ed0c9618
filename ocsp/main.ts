import type { Clock } from '../core/clock.ts';
import { type Config, durationMs } from '../core/config.ts';
import type { StatusFeed } from '../core/feed.ts';
import { closeServer, listen } from '../core/listen.ts';
import { Responder, type ResponderKey } from './responder.ts';
import { ocspServer } from './server.ts';
import { StatusIndex } from './status-index.ts';

export interface OcspService {
  readonly address: string;
  close(): Promise<void>;
}

/** Starts an OCSP responder that follows a feed. It has caught up with the feed once this resolves. */
export async function startOcsp(options: {
  readonly config: Config['ocsp'];
  readonly feed: StatusFeed;
  readonly keys: readonly ResponderKey[];
  readonly clock: Clock;
}): Promise<OcspService> {
  const { config, feed, keys, clock } = options;
  const index = new StatusIndex(feed);
  const stop = new AbortController();
  await feed.follow(index, undefined, stop.signal);
  const responder = new Responder({
    index,
    keys,
    clock,
    responseValidityMs: durationMs(config.responseValidity),
    feedLagMsMax: durationMs(config.feedLagMax),
  });
  const server = ocspServer({ responder, clock, requestBytesMax: config.requestBytesMax });
  const address = await listen(server, config.host, config.port);
  return {
    address,
    close: async () => {
      await closeServer(server);
      stop.abort();
    },
  };
}
