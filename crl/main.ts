import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Clock } from '../core/clock.ts';
import { type Config, durationMs, readFollowerConfig } from '../core/config.ts';
import type { StatusFeed } from '../core/feed.ts';
import { FeedJournal } from '../core/feed-journal.ts';
import { followRemote, openRemoteFeed } from '../core/follow.ts';
import { closeServer, listen } from '../core/listen.ts';
import { runNode } from '../core/process.ts';
import { readResponders } from '../core/responder-file.ts';
import type { Signer } from '../core/signer.ts';
import { openSigningToken } from '../hsm/signing-token.ts';
import { CrlPublisher } from './publisher.ts';
import { crlServer } from './server.ts';

/** How often CRLs are looked over for their age. */
const reviewMs = 60_000;

export interface CrlService {
  readonly address: string;
  close(): Promise<void>;
}

interface CrlOptions {
  readonly config: Config['crl'];
  readonly feed: StatusFeed;
  readonly signers: ReadonlyMap<string, Signer<'crl'>>;
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

function makePublisher({ config, ...options }: CrlOptions): CrlPublisher {
  const validityMs = durationMs(config.validity);
  return new CrlPublisher({ ...options, validityMs, refreshMs: durationMs(config.refreshEvery) });
}

/** Serves what a publisher keeps, and has it look over the age of its CRLs. */
async function serve(publisher: CrlPublisher, { config, folder, logger }: CrlOptions): Promise<CrlService> {
  const review = setInterval(() => {
    publisher
      .publishDue()
      .catch((error: Error) => logger.error({ reason: error.message }, 'CRLs cannot be looked over'));
  }, reviewMs).unref();
  const server = crlServer(folder, publisher.index);
  const address = await listen(server, config.host, config.port);
  return {
    address,
    close: async () => {
      clearInterval(review);
      await closeServer(server);
      await publisher.stop();
    },
  };
}

/** A CRL publisher within the CA's process. Every shard has a CRL that is right once this resolves. */
export async function startCrl(options: CrlOptions): Promise<CrlService> {
  const publisher = makePublisher(options);
  const stop = new AbortController();
  await options.feed.follow(publisher.index, undefined, stop.signal);
  await publisher.publishDue();
  const service = await serve(publisher, options);
  return {
    address: service.address,
    close: async () => {
      stop.abort();
      await service.close();
    },
  };
}

/** A CRL publisher alone: its own folder, a CA elsewhere. Serves what it published last until it has caught up. */
export async function startCrlNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The record is another: follow it from its start, and keep what the journal knows to be revoked. */
  readonly reconcile?: boolean;
}): Promise<CrlService> {
  const { folder, clock, logger } = options;
  const config = readFollowerConfig(join(folder, 'node.json'));
  const token = openSigningToken({ folder, pkcs11: config.pkcs11, token: config.pkcs11.caToken, clock });
  const signers = new Map(
    readResponders(join(folder, 'responders.json')).map(({ authority, issuerSuite }) => [
      authority,
      token.signer('crl', authority, issuerSuite),
    ]),
  );
  const feed = openRemoteFeed(folder, config.feed, logger);
  const crlOptions = { config: config.crl, feed, signers, folder: join(folder, 'published'), clock, logger };
  const publisher = makePublisher(crlOptions);
  const service = await serve(publisher, crlOptions);
  const stop = new AbortController();
  const journal = new FeedJournal(join(folder, 'journal.ndjson'));
  const following = followRemote({
    feed,
    follower: journal.recording(publisher.index),
    resume: () => journal.replay(publisher.index),
    signal: stop.signal,
    logger,
    reconcile: options.reconcile,
  }).then(() => publisher.publishDue());
  return {
    address: service.address,
    close: async () => {
      stop.abort();
      await following;
      await service.close();
      await feed.close();
      await token.close();
    },
  };
}

if (import.meta.main)
  await runNode('warifu-crl', 'a CRL publisher that follows a CA elsewhere', startCrlNode);
