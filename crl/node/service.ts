import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { suiteOfKey } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { durationMs } from '../../core/config/duration.ts';
import { reloading, takeUp } from '../../core/config/reload.ts';
import type { Warnings } from '../../core/config/shared.ts';
import { type ShownTls, shownTls, tlsFilesOf } from '../../core/config/verifiers.ts';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { StatusFeed } from '../../core/feed/feed.ts';
import { FeedJournal } from '../../core/feed/feed-journal.ts';
import { connectToCa, followRemote, leafWarnings } from '../../core/feed/follow.ts';
import { makeRegistry, serveMetrics } from '../../core/http/metrics.ts';
import type { Publications, PublishedHere } from '../../core/model/publication.ts';
import { type Warning, warnNowAndThen } from '../../core/node/warnings.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import { openSigningToken, type SigningToken } from '../../hsm/backend/signing-token.ts';
import type { CrlNodeConfig, CrlOptions } from '../config/options.ts';
import { readCrlNodeConfig } from '../config/options.ts';
import { EntryStore } from '../entries/entry-store.ts';
import { CrlFollower, type Listener } from '../entries/follower.ts';
import { claimEveryMs, HostClaim } from '../folder/host-claim.ts';
import { type CrlMetrics, crlMetrics } from '../publish/metrics.ts';
import { CrlPublisher } from '../publish/publisher.ts';
import { RemotePublications } from '../publish/remote-publications.ts';
import { tooLong } from '../publish/warnings.ts';
import { startListeners } from '../serve/listeners.ts';

/** How often a node looks after its client certificate. */
const upkeepMs = 3_600_000;
const leafFailed = 'the client certificate cannot be renewed';

export interface CrlService {
  readonly address: string;
  readonly published: PublishedHere;
  warnings(config: Warnings): readonly Warning[];
  /** Goes by the configuration as it is now. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

interface CrlParts {
  readonly config: CrlOptions;
  readonly feed: Pick<StatusFeed, 'epochKey'>;
  readonly signerOf: (authority: string, certificate: Bytes) => DigestSigner<'crl'>;
  /** Where it keeps what it has learnt. */
  readonly folder: string;
  /** What files in the configuration are relative to. */
  readonly dataFolder: string;
  /** What it publishes. */
  readonly published: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  /** See `PublisherOptions`. */
  readonly publications: Publications | null;
  /** See `giveWay`; 0 by default. */
  readonly niceness?: number;
}

/** The publisher's parts: what is learnt, what is published, who listens. */
class CrlNode {
  readonly store: EntryStore;
  readonly publisher: CrlPublisher;
  readonly follower: CrlFollower;
  readonly #options: CrlParts;
  readonly #metrics: CrlMetrics;
  readonly #claim: HostClaim;
  readonly #endClaiming: () => Promise<void>;
  #listeners: Awaited<ReturnType<typeof startListeners>> | undefined;

  private constructor(options: CrlParts, claim: HostClaim) {
    const { config, feed, clock, logger, signerOf, published, registry } = options;
    this.#options = options;
    this.#metrics = crlMetrics(registry);
    this.#claim = claim;
    const entries = join(options.folder, 'entries.db');
    this.store = new EntryStore(entries);
    this.publisher = new CrlPublisher({
      store: this.store,
      entries,
      folder: published,
      epochKey: (authority, epoch) => feed.epochKey(authority, epoch),
      signerOf,
      clock,
      logger,
      metrics: this.#metrics,
      workers: config.workers,
      validityMs: durationMs(config.validity),
      refreshMs: durationMs(config.refreshEvery),
      deltas: config.deltas
        ? { validityMs: durationMs(config.deltaValidity), everyMs: durationMs(config.deltaEvery) }
        : null,
      onEvent: config.onEvent,
      onEventDelayMs: durationMs(config.onEventDelay),
      // A CRL is the same for all verifiers, so it cannot name the individual address of one of them.
      deltaIsNamed: !config.verifiers.required,
      backdateMs: durationMs(config.backdate),
      publications: options.publications,
    });
    this.follower = new CrlFollower({ feed, store: this.store, listener: this.#listener() });
    this.#endClaiming = repeat(
      claimEveryMs,
      () => this.#renewClaim(),
      logger,
      'the published folder cannot be claimed',
    );
  }

  /** Why a load balancer should ask another node. */
  async reasons(): Promise<string[]> {
    const [shards, overdue] = await Promise.all(
      [this.#metrics.shards, this.#metrics.overdue].map(
        async (each) => (await each.get()).values[0]?.value ?? 0,
      ),
    );
    if (!shards) return ['nothing is published yet'];
    return overdue ? [`${overdue} CRLs are missing, or past half of their life without a successor`] : [];
  }

  /** What is received goes to the publisher, and verifiers to those who answer them. */
  #listener(): Listener {
    const { publisher } = this;
    return {
      learnt: (news) => publisher.learnt(news),
      changed: (shards) => publisher.changed(shards),
      received: (watermarkMs) => publisher.received(watermarkMs),
      registered: async (verifiers) => this.#listeners?.setVerifiers(verifiers),
    };
  }

  /** Opens the node after claiming the published folder for this host. */
  static async open(options: CrlParts): Promise<CrlNode> {
    const { published, clock } = options;
    mkdirSync(published, { recursive: true });
    const claim = new HostClaim({ folder: published, clock });
    await claim.take();
    return new CrlNode(options, claim);
  }

  async listen(): Promise<void> {
    const { published, config, clock, logger } = this.#options;
    this.publisher.clear();
    this.#listeners = await startListeners(
      {
        ...{ folder: published, config, tls: this.#tls() },
        ...{ shift: clock.shift ?? null, niceness: this.#options.niceness ?? 0 },
      },
      () => this.store.verifiers,
      logger,
    );
    // Those that were received while the threads began.
    await this.#listeners.setVerifiers(this.store.verifiers);
  }

  /** Stops publishing if another host has claimed the folder: the two would overwrite each other's CRLs. */
  async #renewClaim(): Promise<void> {
    try {
      await this.#claim.renew();
    } catch (error) {
      if (!(error instanceof PkiError && error.code === 'in-use')) throw error;
      this.#options.logger.error({ reason: error.message }, 'ALARM: another host publishes here; we stopped');
      await this.publisher.stop();
    }
  }

  warnings({ crlOctets }: Warnings): readonly Warning[] {
    return tooLong(this.publisher.published(), crlOctets);
  }

  async reload(): Promise<void> {
    await this.#listeners?.setRules(this.#options.config.verifiers, this.#tls());
  }

  /** What verifiers are shown over TLS, as the files have it now. */
  #tls(): ShownTls {
    const { config, dataFolder } = this.#options;
    return shownTls(config.verifiers.tls, dataFolder);
  }

  get address(): string {
    return this.#listeners?.address ?? '';
  }

  /** Every step is taken, whatever becomes of the others. */
  async close(): Promise<void> {
    await using closing = new AsyncDisposableStack();
    closing.defer(() => this.#claim.release());
    closing.defer(() => this.store.close());
    closing.defer(() => this.publisher.stop());
    closing.defer(() => this.#endClaiming());
    closing.defer(async () => this.#listeners?.close());
  }
}

/** A CRL publisher within the CA's process. Every shard has a CRL that is right once this resolves. */
export async function startCrl(options: CrlParts & { readonly feed: StatusFeed }): Promise<CrlService> {
  const { feed, logger } = options;
  await using opened = new AsyncDisposableStack();
  const node = await CrlNode.open(options);
  opened.defer(() => node.close());
  const stop = new AbortController();
  opened.defer(() => stop.abort());
  try {
    await feed.follow(node.follower, node.store.cursor, stop.signal);
  } catch (error) {
    if (!(error instanceof PkiError && error.code === 'not-found')) throw error;
    // The record was restored: it is followed from its start, and what is known to be revoked stays so.
    logger.warn({ reason: error.message }, 'the record is followed from its start');
    await feed.follow(node.follower, undefined, stop.signal);
  }
  await node.publisher.settled();
  await node.listen();
  const all = opened.move();
  return {
    address: node.address,
    published: node.publisher.source,
    warnings: (limits) => node.warnings(limits),
    reload: () => node.reload(),
    close: () => all.disposeAsync(),
  };
}

/** A CRL publisher alone: its own folder, a CA elsewhere. Serves what it published last until it has caught up. */
export async function startCrlNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The record is another: follow it from its start, and keep what is known to be revoked. */
  readonly reconcile?: boolean;
  /** How often it looks after its client certificate. */
  readonly upkeepMs?: number;
}): Promise<CrlService> {
  const { folder, clock, logger } = options;
  const config = readCrlNodeConfig(join(folder, 'node.json'));
  await using opened = new AsyncDisposableStack();
  const lock = lockData(folder, ['owner'], 'a CRL node');
  opened.defer(() => lock.release());
  const token = openKeys(folder, config, clock);
  opened.defer(() => token?.close());
  const ca = connectToCa(folder, config.feed, { clock, logger });
  const { feed, renewLeaf } = ca;
  opened.defer(() => feed.close());
  const registry = makeRegistry();
  const node = await CrlNode.open({
    config: config.crl,
    feed,
    signerOf: (authority, certificate) => signerIn(token, authority, certificate),
    folder,
    dataFolder: folder,
    published: join(folder, 'published'),
    ...{ clock, logger, registry },
    publications: token ? null : new RemotePublications(feed),
  });
  opened.defer(() => node.close());
  await node.listen();
  const warn = await warnNowAndThen(
    () => [...leafWarnings(ca, config.warnings, clock), ...node.warnings(config.warnings)],
    { registry, clock, logger },
    opened,
  );
  if (config.metrics) {
    const metrics = await serveMetrics(registry, config.metrics, () => node.reasons());
    opened.defer(() => metrics.close());
  }
  const stop = new AbortController();
  // The journal is for a CA that was restored from an older backup; what is published needs the record alone.
  const journal = new FeedJournal(join(folder, 'journal.ndjson'));
  const following = followRemote({
    feed,
    follower: {
      apply: async (batch) => {
        await journal.remember(batch);
        await node.follower.apply(batch);
      },
    },
    resume: async () => node.store.cursor,
    signal: stop.signal,
    logger,
    reconcile: options.reconcile,
  }).then(async () => {
    if (!stop.signal.aborted)
      await renewLeaf().catch((error: Error) => logger.error({ reason: error.message }, leafFailed));
    await node.publisher.settled();
  });
  opened.defer(repeat(options.upkeepMs ?? upkeepMs, renewLeaf, logger, leafFailed));
  const tidy = () =>
    journal.tidy({
      beforeMs: clock.wallMs() - durationMs(config.crl.journalRetention),
      keepFrom: Number.POSITIVE_INFINITY,
    });
  opened.defer(repeat(upkeepMs, tidy, logger, 'the journal cannot be compacted'));
  opened.defer(() => journal.stopTidying());
  opened.defer(async () => {
    stop.abort();
    await node.publisher.stop();
    await following;
  });
  const all = opened.move();
  return {
    address: node.address,
    published: node.publisher.source,
    warnings: (limits) => node.warnings(limits),
    reload: reloading(logger, async () => {
      const next = readCrlNodeConfig(join(folder, 'node.json'));
      await ca.reload();
      const reloaded = takeUp(config, next, isSafeAtNode);
      await node.reload();
      await warn();
      return { ...reloaded, read: [...tlsFilesOf(config.crl.verifiers), config.feed.key, config.feed.cert] };
    }),
    close: () => all.disposeAsync(),
  };
}

/** What a CRL node takes up without a restart. Whether verifiers must be known stands in what is published. */
const isSafeAtNode = (path: string): boolean => /^(warnings\.|crl\.verifiers\.tokensOver$)/.test(path);

/** The token of a node that signs CRLs itself; null where it serves those that the CA signed. */
function openKeys(folder: string, { signs, pkcs11 }: CrlNodeConfig, clock: Clock): SigningToken | null {
  return signs ? openSigningToken({ folder, pkcs11, token: pkcs11.caToken, clock }) : null;
}

/** An authority's key is in the token under the authority's name; its certificate says of which type it is. */
function signerIn(token: SigningToken | null, authority: string, certificate: Bytes): DigestSigner<'crl'> {
  invariant(token, 'a node without keys signs nothing');
  const suite = suiteOfKey(parseCertificate(certificate).publicKey);
  if (!suite) throw new PkiError('invalid-key', `${authority} has a key of a type that we do not know`);
  return token.signer('crl', authority, suite.name);
}
