import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import type { FollowerConfig } from './config.ts';
import type { FeedFollower } from './feed.ts';
import type { FeedJournal } from './feed-journal.ts';
import { RemoteFeed } from './remote-feed.ts';

/** The feed a follower's configuration names; what goes wrong with it is logged. */
export function openRemoteFeed(folder: string, config: FollowerConfig['feed'], logger: Logger): RemoteFeed {
  const read = (file: string): string => readFileSync(resolve(folder, file), 'utf8');
  return new RemoteFeed({
    url: config.url,
    tls: { key: read(config.key), cert: read(config.cert), ca: read(config.ca) },
    alarm: {
      interrupted: (reason) => logger.warn({ reason }, 'feed interrupted'),
      foreign: (reason) => logger.error({ reason }, 'ALARM: the record is another; following has stopped'),
    },
  });
}

/** How long after a failure a journal is played back again: it needs the CA, for keys are never on disk. */
const retryMs = 500;

/** Plays the journal back, then follows from where it ends. Resolves when following has caught up or was stopped. */
export async function followRemote(
  feed: RemoteFeed,
  follower: FeedFollower,
  journal: FeedJournal,
  signal: AbortSignal,
  logger: Logger,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const cursor = await journal.replay(follower);
      await feed.follow(journal.recording(follower), cursor, signal);
      return;
    } catch (error) {
      logger.warn({ reason: (error as Error).message }, 'the journal cannot be played back yet');
      await new Promise((done) => setTimeout(done, retryMs));
    }
  }
}
