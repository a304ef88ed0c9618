import { join } from 'node:path';
import type { Logger } from 'pino';
import { parseCertificate } from '../core/certificate-reader.ts';
import type { Clock } from '../core/clock.ts';
import { type Config, durationMs, readFollowerConfig } from '../core/config.ts';
import type { StatusFeed } from '../core/feed.ts';
import { FeedJournal } from '../core/feed-journal.ts';
import { followRemote, openRemoteFeed } from '../core/follow.ts';
import { closeServer, listen } from '../core/listen.ts';
import { runNode } from '../core/process.ts';
import { readResponders } from '../core/responder-file.ts';
import { openSigningToken } from '../hsm/signing-token.ts';
import { Responder, type ResponderKey } from './responder.ts';
import { ocspServer } from './server.ts';
import { StatusIndex } from './status-index.ts';

export interface OcspService {
  readonly address: string;
  /** Replaces the delegated keys without a pause. */
  setKeys(keys: readonly ResponderKey[]): void;
  close(): Promise<void>;
}

interface OcspOptions {
  readonly config: Config['ocsp'];
  readonly index: StatusIndex;
  readonly keys: readonly ResponderKey[];
  readonly clock: Clock;
}

/** Listens and answers from an index that somebody keeps up to date. */
async function serve({ config, index, keys, clock }: OcspOptions): Promise<OcspService> {
  const responder = new Responder({
    index,
    keys,
    clock,
    responseValidityMs: durationMs(config.responseValidity),
    feedLagMsMax: durationMs(config.feedLagMax),
  });
  const server = ocspServer({ responder, clock, requestBytesMax: config.requestBytesMax });
  const address = await listen(server, config.host, config.port);
  return { address, setKeys: (next) => responder.setKeys(next), close: () => closeServer(server) };
}

/** An OCSP responder within the CA's process. It has caught up with the feed once this resolves. */
export async function startOcsp(
  options: Omit<OcspOptions, 'index'> & { readonly feed: StatusFeed; readonly journal: FeedJournal },
): Promise<OcspService> {
  const { feed, journal } = options;
  const index = new StatusIndex(feed, options.clock);
  const stop = new AbortController();
  // From the start each time: the record is at hand, and the journal is for whoever has lost it.
  journal.setAside('previous');
  await feed.follow(journal.recording(index), undefined, stop.signal);
  const service = await serve({ ...options, index });
  return {
    ...service,
    close: async () => {
      await service.close();
      stop.abort();
    },
  };
}

/** An OCSP responder alone: its own folder, its own token, a CA elsewhere. Says tryLater until it has caught up. */
export async function startOcspNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The record is another: follow it from its start, and keep what the journal knows to be revoked. */
  readonly reconcile?: boolean;
}): Promise<OcspService> {
  const { folder, clock, logger } = options;
  const config = readFollowerConfig(join(folder, 'node.json'));
  const token = openSigningToken({ folder, pkcs11: config.pkcs11, token: config.pkcs11.ocspToken, clock });
  const keys = readResponders(join(folder, 'responders.json')).map((responder): ResponderKey => {
    const certificate = Buffer.from(responder.certificate, 'base64');
    const signer = token.signer('ocsp', responder.keyLabel, responder.suite);
    const { notAfterMs } = parseCertificate(certificate);
    return { authority: responder.authority, signer, certificate, notAfterMs };
  });
  const feed = openRemoteFeed(folder, config.feed, logger);
  const index = new StatusIndex(feed, options.clock);
  const service = await serve({ config: config.ocsp, index, keys, clock });
  const stop = new AbortController();
  const journal = new FeedJournal(join(folder, 'journal.ndjson'));
  const following = followRemote({
    feed,
    follower: index,
    journal,
    signal: stop.signal,
    logger,
    reconcile: options.reconcile,
  });
  return {
    ...service,
    close: async () => {
      await service.close();
      stop.abort();
      await following;
      await feed.close();
      await token.close();
    },
  };
}

if (import.meta.main)
  await runNode('warifu-ocsp', 'an OCSP responder that follows a CA elsewhere', startOcspNode);
