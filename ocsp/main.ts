import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { suites } from '../core/algorithms.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { type Config, durationMs, readFollowerConfig } from '../core/config.ts';
import type { StatusFeed } from '../core/feed.ts';
import { FeedJournal } from '../core/feed-journal.ts';
import { followRemote, openRemoteFeed } from '../core/follow.ts';
import { closeServer, listen } from '../core/listen.ts';
import { runUntilSignal } from '../core/process.ts';
import { readResponders } from '../core/responder-file.ts';
import { SigningPool } from '../hsm/signing-pool.ts';
import { useSoftHsmFolder } from '../hsm/softhsm.ts';
import { findModule, healTokens, loadModule, readPin, Token } from '../hsm/token.ts';
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
  /** The record is another, and has learned from the journal: begin anew. */
  readonly reconcile?: boolean;
}): Promise<OcspService> {
  const { folder, clock, logger } = options;
  const config = readFollowerConfig(join(folder, 'node.json'));
  useSoftHsmFolder(join(folder, 'softhsm'));
  const modulePath = findModule(config.pkcs11.module);
  const module = loadModule(modulePath);
  const { label, pinFile } = config.pkcs11.ocspToken;
  const token = Token.open(module, label, readPin(resolve(folder, pinFile)));
  const pool = new SigningPool({
    module: modulePath,
    threads: config.pkcs11.signingThreads,
    clock,
    heal: () => healTokens(module, [token]),
  });
  const keys = readResponders(join(folder, 'responders.json')).map((responder): ResponderKey => {
    const suite = suites[responder.suite];
    const key = token.findKeyPair(responder.keyLabel, suite);
    const certificate = Buffer.from(responder.certificate, 'base64');
    const signer = pool.signer({ purpose: 'ocsp', suite, tokenLabel: label, key });
    const { notAfterMs } = parseCertificate(certificate);
    return { authority: responder.authority, signer, certificate, notAfterMs };
  });
  const feed = openRemoteFeed(folder, config.feed, logger);
  const index = new StatusIndex(feed, options.clock);
  const service = await serve({ config: config.ocsp, index, keys, clock });
  const stop = new AbortController();
  const journal = new FeedJournal(join(folder, 'journal.ndjson'));
  if (options.reconcile) journal.setAside(`reconciled-${clock.wallMs()}`);
  const following = followRemote(feed, index, journal, stop.signal, logger);
  return {
    ...service,
    close: async () => {
      await service.close();
      stop.abort();
      await following;
      await feed.close();
      await pool.close();
      token.close();
    },
  };
}

if (import.meta.main) {
  const program = new Command('warifu-ocsp')
    .description('an OCSP responder that follows a CA elsewhere')
    .option('--data <folder>', 'data folder, with node.json and responders.json', 'data')
    .option(
      '--reconcile',
      'after the CA was restored: put the journal aside and follow the new record from its start',
    );
  const { data, reconcile = false } = program.parse().opts<{ data: string; reconcile?: boolean }>();
  const logger = pino({ base: null }, pino.destination(2));
  await runUntilSignal(logger, () =>
    startOcspNode({ folder: resolve(data), clock: systemClock, logger, reconcile }),
  );
}
