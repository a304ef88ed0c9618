import type { Logger } from 'pino';
import type { Clock } from '../core/clock.ts';
import { type Config, durationMs } from '../core/config.ts';
import type { StatusFeed } from '../core/feed.ts';
import { closeServer, listen } from '../core/listen.ts';
import type { Signer } from '../core/signer.ts';
import { CrlPublisher } from './publisher.ts';
import { crlServer } from './server.ts';

/** How often CRLs are looked over for their age. */
const reviewMs = 60_000;

export interface CrlService {
  readonly address: string;
  close(): Promise<void>;
}

/** Starts a CRL publisher that follows a feed. Every shard has a CRL that is right once this resolves. */
export async function startCrl(options: {
  readonly config: Config['crl'];
  readonly feed: StatusFeed;
  readonly signers: ReadonlyMap<string, Signer<'crl'>>;
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<CrlService> {
  const { config, feed, signers, folder, clock, logger } = options;
  const publisher = new CrlPublisher({
    feed,
    folder,
    signers,
    clock,
    logger,
    validityMs: durationMs(config.validity),
    refreshMs: durationMs(config.refreshEvery),
  });
  const stop = new AbortController();
  await feed.follow(publisher.index, undefined, stop.signal);
  await publisher.publishDue();
  const review = setInterval(() => void publisher.publishDue(), reviewMs).unref();
  const server = crlServer(folder, publisher.index);
  const address = await listen(server, config.host, config.port);
  return {
    address,
    close: async () => {
      clearInterval(review);
      await closeServer(server);
      stop.abort();
      await publisher.stop();
    },
  };
}
