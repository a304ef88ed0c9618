import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { durationMs } from '../config/duration.ts';
import type { FeedOptions } from '../config/follower.ts';
import type { Warnings } from '../config/shared.ts';
import { ClientLeaf } from '../node/client-leaf.ts';
import { endingSoon, type Warning } from '../node/warnings.ts';
import { BackOff } from '../runtime/back-off.ts';
import type { Clock } from '../runtime/clock.ts';
import type { FeedCursor, FeedFollower } from './feed.ts';
import { RemoteFeed } from './remote-feed.ts';

/** A node's connection to its CA: the feed, and the client certificate that it shows. */
export interface CaConnection {
  readonly feed: RemoteFeed;
  readonly leaf: ClientLeaf;
  /** Renews the client certificate where that is due, and shows the new one from then on. */
  renewLeaf(): Promise<void>;
  /** Shows the client certificate that its files hold now. */
  reload(): Promise<void>;
}

/** The CA that a follower's configuration names; what goes wrong with the feed is logged. With `answersForMs` it confirms what it has applied. */
export function connectToCa(
  folder: string,
  config: FeedOptions,
  {
    clock,
    logger,
    answersForMs,
  }: { readonly clock: Clock; readonly logger: Logger; readonly answersForMs?: number },
): CaConnection {
  const file = (name: string): string => resolve(folder, name);
  const leaf = new ClientLeaf({ key: file(config.key), cert: file(config.cert) }, clock);
  const feed = new RemoteFeed({
    url: config.url,
    tls: { ...leaf.pair, ca: readFileSync(file(config.ca), 'utf8') },
    ...(answersForMs === undefined ? {} : { answersForMs }),
    alarm: {
      interrupted: (reason) => logger.warn({ reason }, 'feed interrupted'),
      foreign: (reason) =>
        logger.error(
          { reason },
          'ALARM: the record is another; following has stopped: start once with --reconcile',
        ),
    },
  });
  const renewLeaf = async (): Promise<void> => {
    const renewed = await leaf.renew((...asked) => feed.renewClient(...asked));
    if (!renewed) return;
    await feed.use(renewed);
    logger.info({ endsAt: new Date(leaf.ending.endsMs).toISOString() }, 'the client certificate was renewed');
  };
  return { feed, leaf, renewLeaf, reload: () => feed.use(leaf.pair) };
}

/** Warns of a node's client certificate, where renewing it has failed for long. */
export function leafWarnings(
  { leaf }: Pick<CaConnection, 'leaf'>,
  warnings: Warnings,
  clock: Clock,
): Warning[] {
  return endingSoon([leaf.ending], {
    kind: 'client-ends',
    act: 'see in the log why it is not renewed; warifu client on the CA makes another',
    aheadMs: durationMs(warnings.client),
    nowMs: clock.wallMs(),
  });
}

/** How long after a failure it is tried again to begin: it needs the CA, for keys are never on disk. Milliseconds. */
const attempts = { firstMs: 500, mostMs: 5000 };

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
  const backOff = new BackOff(attempts);
  while (!signal.aborted) {
    try {
      const cursor = await resume();
      await feed.follow(follower, reconcile ? undefined : cursor, signal);
      return;
    } catch (error) {
      if (signal.aborted) return;
      logger.warn({ reason: (error as Error).message }, 'the CA is needed to begin, and cannot be asked yet');
      await setTimeout(backOff.failed(), undefined, { signal }).catch(() => undefined);
    }
  }
}
