import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import { reloading, takeUp } from '../../core/config/reload.ts';
import type { Warnings } from '../../core/config/shared.ts';
import { type ShownTls, shownTls, tlsFilesOf } from '../../core/config/verifiers.ts';
import type { Gate } from '../../core/crypto/signer.ts';
import type { FeedCursor, FeedFollower, StatusFeed } from '../../core/feed/feed.ts';
import { FeedJournal } from '../../core/feed/feed-journal.ts';
import { connectToCa, followRemote, leafWarnings } from '../../core/feed/follow.ts';
import type { RemoteFeed } from '../../core/feed/remote-feed.ts';
import { makeRegistry, serveMetrics } from '../../core/http/metrics.ts';
import { configuredResponders } from '../../core/node/responder-file.ts';
import {
  endingOfFile,
  endingSoon,
  endingsOfResponders,
  type Warning,
  warnNowAndThen,
} from '../../core/node/warnings.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import { openSigningToken } from '../../hsm/backend/signing-token.ts';
import type { Pkcs11Options } from '../../hsm/config/options.ts';
import type { OcspOptions } from '../config/options.ts';
import { readOcspNodeConfig } from '../config/options.ts';
import { IndexKeeper } from '../index/index-keeper.ts';
import { StatusIndex } from '../index/status-index.ts';
import { Presigner } from '../sign/presigner.ts';
import type { AnswerCounts } from './answer-counts.ts';
import { Listeners } from './listeners.ts';
import { ocspMetrics } from './metrics.ts';
import { forgetQueries } from './query-log.ts';
import { Renewal } from './renewal.ts';
import { threadKeys } from './thread-keys.ts';
import type { ThreadKey } from './thread-messages.ts';

/** How often certificates of our own are looked over for their age, and segments for theirs. */
const upkeepMs = 3_600_000;
/** How soon a renewal that failed is tried again. */
const retryMs = 10_000;

export interface OcspService {
  readonly address: string;
  /** What was answered since the start. */
  answered(): AnswerCounts;
  /** Replaces the delegated keys without a pause; the first of an authority is its default. */
  setKeys(keys: readonly ThreadKey[]): Promise<void>;
  warnings(limits: Warnings): readonly Warning[];
  /** Goes by the configuration, and the files it names, as they are now. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/** A responder in the process that asks. */
export interface LocalOcspService extends OcspService {
  /** What it answers from. */
  readonly index: Pick<StatusIndex, 'revokedRuns' | 'reader' | 'serialOf'>;
  /** How far behind what it answers by is, milliseconds. */
  lagMs(): number;
}

interface OcspParts {
  /** Where it keeps journal, snapshot and logs. */
  readonly folder: string;
  /** What names of files in the configuration are relative to. */
  readonly dataFolder: string;
  readonly config: OcspOptions;
  readonly pkcs11: Pkcs11Options;
  /** Of the module that its keys are in. */
  readonly gate: Gate;
  readonly keys: readonly ThreadKey[];
  /** Where delegations are kept. */
  readonly responders: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What was received since then is kept, whatever its age. */
  readonly keepJournalFromMs?: () => number;
  /** See `giveWay`; 0 by default. */
  readonly niceness?: number;
}

/** The responder's parts in the main thread: an index that is kept, threads that listen, what is signed ahead. */
class OcspNode {
  readonly index: StatusIndex;
  readonly keeper: IndexKeeper;
  readonly #options: OcspParts;
  readonly #stops: (() => Promise<void>)[] = [];
  #listeners: Listeners | undefined;
  #presigner: Presigner | undefined;

  constructor(options: OcspParts, feed: Pick<StatusFeed, 'epochKey'>) {
    const { folder, clock, logger } = options;
    this.#options = options;
    this.index = new StatusIndex(feed, clock);
    const journal = new FeedJournal(join(folder, 'journal.ndjson'));
    this.keeper = new IndexKeeper({
      index: this.index,
      journal,
      file: join(folder, 'index.snapshot'),
      logger,
    });
  }

  /** Applies each batch to the index, and has changed answers signed again. */
  get follower(): FeedFollower {
    return {
      apply: async (batch) => {
        await this.keeper.follower.apply(batch);
        this.#presigner?.received(batch);
      },
    };
  }

  async listen(): Promise<void> {
    const { config, logger, clock, pkcs11, gate, keys } = this.#options;
    this.#listeners = await Listeners.start({
      ...{ pkcs11, gate, keys },
      config,
      logger,
      index: this.index,
      tls: this.#verifierTls(),
      askedFolder: this.#askedFolder,
      shift: clock.shift ?? null,
      niceness: this.#options.niceness ?? 0,
    });
  }

  get #askedFolder(): string {
    return join(this.#options.folder, 'asked');
  }

  /** What verifiers are shown over TLS, as the files have it now. */
  #verifierTls(): ShownTls {
    const { dataFolder, config } = this.#options;
    return shownTls(config.verifiers.tls, dataFolder);
  }

  /** Goes by the configuration, and the files it names, as they are now. */
  async reload(): Promise<void> {
    await this.#listeners?.setVerifiers(this.#options.config.verifiers, this.#verifierTls());
  }

  /** What is done now and then. */
  async keepUp(): Promise<void> {
    const { config, dataFolder, logger, clock } = this.#options;
    // What a new node begins with is there from the start on.
    await this.keeper.save().catch((error: Error) => logger.error({ reason: error.message }, saveFailed));
    this.repeat(durationMs(config.snapshotEvery), saveFailed, () => this.keeper.save());
    this.repeat(upkeepMs, journalFailed, () =>
      this.keeper.tidy(
        Math.min(
          clock.wallMs() - durationMs(config.journalRetention),
          this.#options.keepJournalFromMs?.() ?? Number.POSITIVE_INFINITY,
        ),
      ),
    );
    this.repeat(upkeepMs, queriesFailed, () =>
      forgetQueries(this.#askedFolder, clock.wallMs() - durationMs(config.verifiers.logRetention)),
    );
    const { archiveRetention, presign } = config;
    if (archiveRetention !== undefined) {
      this.repeat(upkeepMs, 'segments cannot be retired', () =>
        this.index.retire(this.index.reader.watermarkMs - durationMs(archiveRetention)),
      );
    }
    if (presign.to === 'nowhere') return;
    const presigner = new Presigner({
      index: this.index,
      presign: async (requests) =>
        (await this.#listeners?.presign(requests, presign.to === 'files' ? 'one thread' : 'each thread')) ??
        [],
      newest: presign.newest,
      folder: presign.to === 'files' ? resolve(dataFolder, presign.folder) : null,
      failed: (error) => logger.error({ reason: error.message }, 'answers cannot be signed ahead'),
    });
    this.#presigner = presigner;
    await presigner
      .run()
      .catch((error: Error) => logger.error({ reason: error.message }, 'answers cannot be signed ahead'));
    this.repeat(durationMs(presign.every), 'answers cannot be signed ahead', () => presigner.run());
  }

  /** What will hurt: delegations in a file, and the certificate that verifiers are shown. */
  warnings(limits: Warnings): Warning[] {
    const { config, dataFolder, clock, responders } = this.#options;
    const nowMs = clock.wallMs();
    const { tls } = config.verifiers;
    const delegations = configuredResponders(responders, config.responderSuites);
    return [
      ...endingSoon(endingsOfResponders(delegations), {
        kind: 'responder-ends',
        act: 'see in the log why it is not renewed',
        aheadMs: durationMs(limits.responder),
        nowMs,
      }),
      ...endingSoon(tls ? [endingOfFile(resolve(dataFolder, tls.cert))] : [], {
        kind: 'tls-ends',
        act: 'replace it, and restart',
        aheadMs: durationMs(limits.tls),
        nowMs,
      }),
    ];
  }

  repeat(ms: number, failure: string, act: () => Promise<void>): void {
    this.#stops.push(repeat(ms, act, this.#options.logger, failure));
  }

  async setKeys(keys: readonly ThreadKey[]): Promise<void> {
    await this.#listeners?.setKeys(keys);
  }

  get address(): string {
    return this.#listeners?.address ?? '';
  }

  get answered(): AnswerCounts {
    return this.#listeners?.answered ?? { byKind: new Map(), kept: 0 };
  }

  /** Every step is taken, whatever becomes of the others. */
  async close(): Promise<void> {
    await using closing = new AsyncDisposableStack();
    // What is deferred last is done first.
    closing.defer(() => this.keeper.save());
    closing.defer(async () => this.#presigner?.close());
    closing.defer(async () => this.#listeners?.close());
    for (const stop of this.#stops) closing.defer(stop);
    closing.defer(() => this.keeper.stopTidying());
  }
}

/** An OCSP responder within the CA's process. It has caught up with the feed once this resolves. */
export async function startOcsp(
  options: OcspParts & { readonly feed: StatusFeed },
): Promise<LocalOcspService> {
  const { feed, logger } = options;
  await using opened = new AsyncDisposableStack();
  const stop = new AbortController();
  let node = new OcspNode(options, feed);
  opened.defer(() => node.close());
  opened.defer(() => stop.abort());
  const follow = (cursor: FeedCursor | undefined) => feed.follow(node.follower, cursor, stop.signal);
  try {
    await follow(await node.keeper.resume());
  } catch (error) {
    if (!(error instanceof PkiError && error.code === 'not-found')) throw error;
    // The record was restored: what is on disk is of another, and this one is at hand.
    logger.warn({ reason: error.message }, 'the index is rebuilt');
    node.keeper.forget();
    node = new OcspNode(options, feed);
    await follow(undefined);
  }
  await node.listen();
  await node.keepUp();
  const all = opened.move();
  return {
    address: node.address,
    setKeys: (keys) => node.setKeys(keys),
    get index() {
      return node.index;
    },
    answered: () => node.answered,
    lagMs: () => node.index.reader.lagMs,
    warnings: (limits) => node.warnings(limits),
    reload: () => node.reload(),
    close: () => all.disposeAsync(),
  };
}

/** An OCSP responder alone: its own folder, its own token, a CA elsewhere. Says tryLater until it has caught up. */
export async function startOcspNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The record is another: follow it from its start, and keep what the journal knows to be revoked. */
  readonly reconcile?: boolean;
  /** How often it looks after its delegations. */
  readonly upkeepMs?: number;
}): Promise<OcspService> {
  const { folder, clock, logger, reconcile } = options;
  const config = readOcspNodeConfig(join(folder, 'node.json'));
  const { pkcs11, feed: at, ocsp } = config;
  await using opened = new AsyncDisposableStack();
  const lock = lockData(folder, ['owner'], 'an OCSP node');
  opened.defer(() => lock.release());
  const token = openSigningToken({ folder, pkcs11, token: pkcs11.ocspToken, clock });
  opened.defer(() => token.close());
  const { gate } = token;
  const file = join(folder, 'responders.json');
  const answersForMs = durationMs(ocsp.feedLagMax);
  const ca = connectToCa(folder, at, { clock, logger, answersForMs });
  const { feed, renewLeaf } = ca;
  opened.defer(() => feed.close());
  const keys = threadKeys(file, ocsp, token);
  const node = new OcspNode(
    { folder, dataFolder: folder, config: ocsp, pkcs11, gate, keys, responders: file, clock, logger },
    feed,
  );
  opened.defer(() => node.close());
  await node.listen();
  const registry = makeRegistry();
  const warn = await warnNowAndThen(
    () => [...leafWarnings(ca, config.warnings, clock), ...node.warnings(config.warnings)],
    { registry, clock, logger },
    opened,
  );
  if (config.metrics) {
    ocspMetrics(registry, { answered: () => node.answered, lagMs: () => node.index.reader.lagMs });
    const limitMs = durationMs(ocsp.feedLagMax);
    const metrics = await serveMetrics(registry, config.metrics, async () => lateness(node, limitMs));
    opened.defer(() => metrics.close());
  }
  const { authorities } = node.index.reader;
  const renewal = new Renewal({
    file,
    config: ocsp,
    authorities,
    token,
    certify: (...asked) => feed.certify(...asked),
    clock,
  });
  const renew = async (): Promise<void> => {
    if (await renewal.run()) await node.setKeys(threadKeys(file, ocsp, token));
  };
  const stop = new AbortController();
  const { signal } = stop;
  const resume = () => resumeOrBegin(node, feed, { isReconciling: reconcile === true, signal, logger });
  const { follower } = node;
  const following = followRemote({ feed, follower, resume, signal, logger, reconcile }).then(async () => {
    if (stop.signal.aborted) return;
    await renew().catch((error: Error) => logger.error({ reason: error.message }, renewalFailed));
    await renewLeaf().catch((error: Error) => logger.error({ reason: error.message }, leafFailed));
    node.repeat(options.upkeepMs ?? retryMs, renewalFailed, renew);
    node.repeat(options.upkeepMs ?? upkeepMs, leafFailed, renewLeaf);
    await node.keepUp();
  });
  opened.defer(async () => {
    stop.abort();
    await following;
  });
  const all = opened.move();
  return {
    address: node.address,
    answered: () => node.answered,
    setKeys: (next) => node.setKeys(next),
    warnings: (limits) => node.warnings(limits),
    reload: reloading(logger, async () => {
      const next = readOcspNodeConfig(join(folder, 'node.json'));
      // Files first: where one of them cannot be used, nothing else is taken up either.
      await node.reload();
      await ca.reload();
      const reloaded = takeUp(config, next, isSafeAtNode);
      await node.reload();
      await warn();
      return { ...reloaded, read: [...tlsFilesOf(ocsp.verifiers), at.key, at.cert] };
    }),
    close: () => all.disposeAsync(),
  };
}

/**
 * Where a node goes on: from what it has on disk, else from what the CA's own responder knows, which it saves as its own once it has caught
 * up. One that reconciles follows the record from its first event.
 */
async function resumeOrBegin(
  { keeper }: OcspNode,
  feed: Pick<RemoteFeed, 'snapshot'>,
  {
    isReconciling,
    signal,
    logger,
  }: { readonly isReconciling: boolean; readonly signal: AbortSignal; readonly logger: Logger },
): Promise<FeedCursor | undefined> {
  const cursor = await keeper.resume();
  if (cursor || isReconciling) return cursor;
  const begun = await keeper.begin((file) => feed.snapshot(file, signal));
  if (begun) logger.info({ cursor: begun }, 'began with the CA’s snapshot of its index');
  else logger.info('there is no snapshot to begin with: the feed is followed from its first event');
  return begun;
}

/** Why a load balancer should ask another node. */
const lateness = ({ index }: OcspNode, limitMs: number): string[] =>
  index.reader.lagMs > limitMs ? ['the feed lags: requests are answered tryLater'] : [];

/** What an OCSP node takes up without a restart. */
const isSafeAtNode = (path: string): boolean =>
  /^(warnings\.|ocsp\.verifiers\.(required|tokensOver)$)/.test(path);

const queriesFailed = 'what verifiers asked long ago cannot be removed';
const saveFailed = 'the status index cannot be written to disk';
const journalFailed = 'the journal cannot be compacted';
const renewalFailed = 'the responder’s certificate cannot be renewed';
const leafFailed = 'the client certificate cannot be renewed';
