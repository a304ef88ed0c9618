import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import type { FollowerConfig } from './config.ts';
import type { FeedCursor, FeedFollower } from './feed.ts';
import { RemoteFeed } from './remote-feed.ts';
import { readSecret } from './secret-file.ts';

/** The feed a follower's configuration names; what goes wrong with it is logged. */
export function openRemoteFeed(folder: string, config: FollowerConfig['feed'], logger: Logger): RemoteFeed {
  const read = (file: string): string => readFileSync(resolve(folder, file), 'utf8');
  return new RemoteFeed({
    url: config.url,
    tls: { key: readSecret(resolve(folder, config.key)), cert: read(config.cert), ca: read(config.ca) },
    alarm: {
      interrupted: (reason) => logger.warn({ reason }, 'feed interrupted'),
      foreign: (reason) =>
        logger.error(
          { reason },
          'ALARM: the record is another; following has stopped: start once with --reconcile',
        ),
    },
  });
}

/** How long after a failure a journal is played back again: it needs the CA, for keys are never on disk. */
const retryMs = 500;

/**
 * Resumes, then follows from there; after a restore of the CA (`reconcile`) from the new
 * record's start, with what was played back kept: revoked stays revoked. Resolves when it has caught up or was stopped.
 */
export async function followRemote(options: {
  readonly feed: RemoteFeed;
  readonly follower: FeedFollower;
  /** Brings the follower to where it was; returns the cursor to go on from. */
  readonly resume: () => Promise<FeedCursor | undefined>;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly reconcile: boolean | undefined;
}): Promise<void> {
  const { feed, follower, resume, signal, logger, reconcile } = options;
  while (!signal.aborted) {
    try {
      const cursor = await resume();
      await feed.follow(follower, reconcile ? undefined : cursor, signal);
      return;
    } catch (error) {
      logger.warn({ reason: (error as Error).message }, 'the journal cannot be played back yet');
      await new Promise((done) => setTimeout(done, retryMs));
    }
  }
}
