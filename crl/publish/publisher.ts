import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { PublishedHere } from '../../core/model/publication.ts';
import { backOffMs } from '../../core/runtime/back-off.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { must } from '../../core/runtime/errors.ts';
import type { Listener } from '../entries/follower.ts';
import type { EpochKey } from '../entries/restricted-entries.ts';
import { AuxiliaryFiles, indexOf } from '../folder/auxiliary-files.ts';
import { PublishedFolder, type PublishedShard, publishedIn } from '../folder/published.ts';
import type { BuildOrder, Trigger } from '../issue/build-order.ts';
import type { CrlTaskResult } from './crl-worker.ts';
import type { PublisherOptions } from './publisher-options.ts';
import { Relay, type ShardOf } from './relay.ts';
import { Schedule } from './schedule.ts';
import { countOverdue, hasAny, type ShardState } from './shard-state.ts';
import { CrlWorkers } from './workers.ts';

/** How often CRLs are looked over for their age. */
const reviewMs = 1000;
/** How often at most the index of shards is written; a nation's has ten megabytes. */
const indexEveryMs = 5000;
/** After how many reviews with CRLs overdue another node is let again. */
const giveUpEvery = 120;
/** How often at most it is looked up what others have published. */
const stateEveryMs = 60_000;
/** For how long after their end certificates are remembered that are listed no more. */
const rememberedMs = 180 * 86_400_000;
/** For how long one publisher may have a shard to itself; a build takes a fraction of a second. */
const leaseMs = 10_000;
/**
 * How much longer than it takes to issue a shard's CRL the next waits for what changes meanwhile: where thousands of
 * certificates change, each shard takes a twentieth of one core at most.
 */
const restFactor = 20;
const [restFreeMs, restMostMs] = [1000, 5000];
/** Before what failed, or what another is at, is tried again; doubles with each time. */
const retry = { firstMs: 250, mostMs: 60_000 } as const;

/**
 * Decides which shard's CRLs are issued when, and has workers do it: what has changed before what is due, each shard by one
 * worker at a time. What fails is tried again; what is published stays meanwhile.
 */
export class CrlPublisher implements Listener {
  readonly #options: PublisherOptions;
  readonly #schedule: Schedule;
  readonly #folder: PublishedFolder;
  readonly #owner = crypto.randomUUID();
  readonly #workers: CrlWorkers;
  readonly #shards = new Map<number, ShardState>();
  readonly #paths = new Map<string, ShardState>();
  readonly #authorities = new Map<string, Bytes>();
  readonly #keys = new Map<string, Bytes>();
  readonly #signers = new Map<string, DigestSigner<'crl'>>();
  /** What waits to be built: what has changed, and what is due. */
  readonly #changed = new Set<ShardState>();
  readonly #due = new Map<ShardState, Trigger>();
  readonly #running = new Map<ShardState, Promise<void>>();
  readonly #timers: NodeJS.Timeout[] = [];
  #gathering: NodeJS.Timeout | undefined;
  #watermarkMs = 0;
  #overdueReviews = 0;
  #wasIdle = false;
  #isStopped = false;
  /** Whether the index says what is published, and when it was written. */
  #isListed = false;
  #listedMs = Number.NEGATIVE_INFINITY;
  readonly #auxiliary: AuxiliaryFiles;
  readonly #relay: Relay | null;
  #stateReadMs = 0;
  #stopping: Promise<void> | undefined;
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: PublisherOptions) {
    const { clock, refreshMs, deltas, entries, folder, workers, store } = options;
    this.#options = options;
    this.#schedule = new Schedule({ clock, refreshMs, deltaEveryMs: deltas?.everyMs ?? null });
    this.#folder = new PublishedFolder({ folder, owner: this.#owner, leaseMs });
    this.#auxiliary = new AuxiliaryFiles(this.#folder, options.logger);
    this.#relay = Relay.of(options.publications, {
      ...{ folder, clock, logger: options.logger },
      shardOf: (path) => this.#shardAt(path),
      adopted: (published) => this.#adopted(published),
    });
    const place = { entries, folder, owner: this.#owner, leaseMs };
    this.#workers = new CrlWorkers({ threads: workers, place, relay: this.#relay });
    this.learnt({ authorities: store.authorities, shards: store.shards });
    this.#readState();
    for (const id of store.changed) this.#markChanged(id);
    this.#timers.push(setInterval(() => this.#review(), reviewMs).unref());
  }

  learnt({ authorities, shards }: Parameters<Listener['learnt']>[0]): void {
    for (const { authority, certificate } of authorities) {
      this.#authorities.set(authority, certificate);
      this.#auxiliary.place(`ca/${authority}.cer`, certificate);
    }
    for (const shard of shards) {
      if (this.#shards.has(shard.id)) continue;
      const sinceMs = this.#options.clock.monotonicMs();
      const state = { shard, sinceMs, published: undefined, failures: 0, notBeforeMs: 0, restsUntilMs: 0 };
      this.#shards.set(shard.id, state);
      this.#paths.set(shard.path, state);
    }
  }

  changed(shards: Iterable<number>): void {
    for (const id of shards) this.#markChanged(id);
    if (this.#changed.size === 0 || this.#gathering) return;
    this.#gathering = setTimeout(() => {
      this.#gathering = undefined;
      this.#dispatch();
    }, this.#options.onEventDelayMs).unref();
  }

  received(watermarkMs: number): void {
    this.#watermarkMs = watermarkMs;
  }

  /** For nodes that take from here what is published. */
  readonly source: PublishedHere = publishedIn(() => this.#folder);

  /** What is published, as far as it is known here. */
  *published(): Iterable<PublishedShard> {
    for (const { published } of this.#shards.values()) if (published) yield published;
  }

  /** Has everything issued by schedule now, whatever its age. Resolves as `settled` does. */
  async rebuild(): Promise<void> {
    for (const state of this.#shards.values()) this.#due.set(state, 'schedule');
    await this.settled();
  }

  /** Resolves once all that is due, or has changed, has been issued or has failed once; where another node publishes, once that is here. */
  async settled(): Promise<void> {
    await this.#relay?.look();
    this.#review();
    this.#idle ??= Promise.withResolvers();
    const idle = this.#idle.promise;
    this.#checkIdle();
    await idle;
    await this.#auxiliary.settled();
  }

  /** Clears away what publishers left that ended in the middle of their work; once, when it begins. */
  clear(): void {
    this.#folder.clear(this.#options.clock.wallMs());
  }

  /** Ends once what is under way is done. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#isStopped = true;
    this.#relay?.giveUp();
    clearTimeout(this.#gathering);
    for (const timer of this.#timers) clearInterval(timer);
    this.#checkIdle();
    await Promise.all(this.#running.values());
    await this.#auxiliary.settled();
    await this.#workers.close();
    await this.#relay?.close();
    this.#folder.close();
  }

  #markChanged(id: number): void {
    const state = this.#shards.get(id);
    if (!state) return;
    if (this.#options.onEvent !== 'nothing' || !state.published) this.#changed.add(state);
  }

  #review(): void {
    if (this.#isStopped) return;
    const { metrics, logger, clock } = this.#options;
    for (const state of this.#shards.values()) {
      if (this.#watermarkMs === 0 || this.#due.get(state) === 'schedule' || this.#running.has(state))
        continue;
      const trigger = this.#schedule.due(state.published, this.#watermarkMs);
      if (trigger) this.#due.set(state, trigger);
    }
    const overdue = this.#countOverdue();
    metrics.overdue.set(overdue);
    metrics.shards.set(this.#shards.size);
    const nowMs = clock.monotonicMs();
    // What is overdue as it starts, or since this moment, is being issued.
    this.#overdueReviews = overdue > 0 && this.#wasIdle ? this.#overdueReviews + 1 : 0;
    // Another node may be able to; where there is none, this one tries again.
    if (this.#overdueReviews % giveUpEvery === 2) this.#relay?.giveUp();
    if (this.#overdueReviews === 2)
      logger.error({ overdue }, 'ALARM: CRLs have used up half of their life and have no successor');
    if (nowMs - this.#listedMs >= indexEveryMs) this.#placeIndex();
    void this.#relay?.look();
    this.#auxiliary.retry();
    this.#dispatch();
  }

  /** Shards with a CRL that ought to have a successor, and those that ought to have one at all. */
  #countOverdue(): number {
    const nowMs = this.#options.clock.monotonicMs();
    const count = (): number => countOverdue(this.#shards.values(), this.#schedule, nowMs);
    const overdue = count();
    if (overdue === 0 || nowMs - this.#stateReadMs < stateEveryMs) return overdue;
    // Another publisher may have been at it.
    this.#readState();
    return count();
  }

  #readState(): void {
    this.#stateReadMs = this.#options.clock.monotonicMs();
    const published = new Map([...this.#folder.all()].map((each) => [each.path, each]));
    for (const state of this.#shards.values()) {
      state.published = published.get(state.shard.path) ?? state.published;
    }
  }

  #dispatch(): void {
    while (this.#mayBuild() && this.#running.size < this.#workers.capacity) {
      const next = this.#next();
      if (!next) break;
      const [state, trigger] = next;
      const running = this.#build(state, trigger).finally(() => {
        this.#running.delete(state);
        this.#dispatch();
      });
      this.#running.set(state, running);
    }
    this.#checkIdle();
  }

  #mayBuild(): boolean {
    return !this.#isStopped && this.#watermarkMs > 0 && (this.#relay?.isPublishing() ?? true);
  }

  /** What is to be built next, taken off its queue. */
  #next(): [ShardState, Trigger] | undefined {
    const isReady = this.#readiness();
    const onEvent = this.#options.onEvent === 'delta' ? 'event-delta' : 'event';
    const take = (state: ShardState): [ShardState, Trigger] => {
      const due = this.#due.get(state);
      this.#due.delete(state);
      // What is issued by schedule has what has changed in it; what is issued for a change, the delta that is due.
      const isChanged = this.#changed.delete(state);
      return [state, due === undefined || (isChanged && due !== 'schedule') ? onEvent : due];
    };
    const nowMs = this.#options.clock.monotonicMs();
    for (const state of this.#changed) if (state.restsUntilMs <= nowMs && isReady(state)) return take(state);
    for (const state of this.#due.keys()) if (isReady(state)) return take(state);
    return undefined;
  }

  /** What could be built now. */
  #readiness(): (state: ShardState) => boolean {
    const nowMs = this.#options.clock.monotonicMs();
    return (state) =>
      !this.#running.has(state) && state.notBeforeMs <= nowMs && this.#authorities.has(state.shard.authority);
  }

  async #build(state: ShardState, trigger: Trigger): Promise<void> {
    const { shard } = state;
    const { metrics, clock, logger } = this.#options;
    const startMs = clock.monotonicMs();
    let result: CrlTaskResult;
    try {
      result = await this.#order(state, trigger);
    } catch (error) {
      result = { type: 'failed', reason: (error as Error).message };
    }
    if (result.type === 'published' || result.type === 'unchanged') {
      // What is issued by schedule keeps no revocation waiting.
      if (trigger !== 'schedule') this.#rest(state, clock.monotonicMs() - startMs);
      if (trigger === 'schedule') this.#due.delete(state);
      this.#published(state, result);
      if (result.type === 'published') metrics.published(trigger, (clock.monotonicMs() - startMs) / 1000);
      return;
    }
    if (result.type === 'failed') {
      metrics.failures.inc();
      logger.error({ shard: shard.shard, reason: result.reason }, 'CRL not published');
    } else if ('shard' in result) {
      state.published = result.shard ?? state.published;
      metrics.postponed.inc({ why: result.type });
    }
    state.failures += 1;
    const waitMs = backOffMs(retry, state.failures);
    state.notBeforeMs = clock.monotonicMs() + waitMs;
    setTimeout(() => this.#dispatch(), waitMs + 1).unref();
    if (trigger === 'schedule' || trigger === 'delta') this.#due.set(state, trigger);
    else this.#changed.add(state);
  }

  /** What took long to issue is not issued again at once. What is short is: a revocation is published within moments. */
  #rest(state: ShardState, tookMs: number): void {
    const waitMs = Math.min(tookMs * restFactor, restMostMs) - restFreeMs;
    if (waitMs <= 0) return;
    state.restsUntilMs = this.#options.clock.monotonicMs() + waitMs;
    setTimeout(() => this.#dispatch(), waitMs + 1).unref();
  }

  #published(state: ShardState, result: CrlTaskResult & { type: 'published' | 'unchanged' }): void {
    const { store, logger, clock } = this.#options;
    const { id, shard } = state.shard;
    state.failures = 0;
    state.published = result.shard;
    this.#isListed = false;
    for (const damaged of result.damaged) logger.error({ shard, damaged }, 'a published CRL was damaged');
    try {
      store.published(id, result.batch);
      if (result.ended.length > 0) store.end(id, result.ended, clock.wallMs() - rememberedMs);
    } catch (error) {
      // It is issued again, and listed once more, where this is not remembered.
      logger.warn({ shard, reason: (error as Error).message }, 'a published CRL is not remembered');
    }
  }

  async #order({ shard, published }: ShardState, trigger: Trigger): Promise<CrlTaskResult> {
    const seenNumber = published?.number ?? 0;
    const { clock, validityMs, deltas, deltaIsNamed, backdateMs } = this.#options;
    const certificate = must(this.#authorities.get(shard.authority), `certificate of ${shard.authority}`);
    const order: BuildOrder = {
      seenNumber,
      shard: {
        id: shard.id,
        path: shard.path,
        distributionPointName: shard.distributionPointName,
        scope: shard.shard.startsWith('authority/') ? 'onlyContainsCACerts' : 'onlyContainsUserCerts',
        certificate,
      },
      keys: await this.#keysOf(shard.authority),
      trigger,
      nowMs: clock.wallMs(),
      watermarkMs: this.#watermarkMs,
      validityMs,
      deltaValidityMs: deltas?.validityMs ?? null,
      deltaIsNamed,
      backdateMs,
    };
    return this.#workers.build(order, this.#signerOf(shard.authority, certificate));
  }

  /** Keys that cannot be had now may not be needed: only what restricts phones is worked out with them. */
  async #keysOf(authority: string): Promise<EpochKey[]> {
    const keys: EpochKey[] = [];
    for (const epoch of this.#options.store.epochsOf(authority)) {
      const name = `${authority}:${epoch}`;
      const key =
        this.#keys.get(name) ?? (await this.#options.epochKey(authority, epoch).catch(() => undefined));
      if (!key) continue;
      this.#keys.set(name, key);
      keys.push({ epoch, key });
    }
    return keys;
  }

  /** A shard by its path, with the certificate that its CRLs are verified by. */
  #shardAt(path: string): ReturnType<ShardOf> {
    const shard = this.#paths.get(path)?.shard;
    const certificate = shard && this.#authorities.get(shard.authority);
    return shard && certificate && { certificate, distributionPointName: shard.distributionPointName };
  }

  /** Another node has published it. */
  #adopted(published: PublishedShard): void {
    const state = this.#paths.get(published.path);
    if (!state) return;
    state.published = published;
    this.#due.delete(state);
    this.#isListed = false;
  }

  #signerOf(authority: string, certificate: Bytes): DigestSigner<'crl'> {
    const known = this.#signers.get(authority);
    if (known) return known;
    const signer = this.#options.signerOf(authority, certificate);
    this.#signers.set(authority, signer);
    return signer;
  }

  #checkIdle(): void {
    if (!this.#idle || this.#running.size > 0) return;
    const isReady = this.#readiness();
    const waits = hasAny(this.#changed, isReady) || hasAny(this.#due.keys(), isReady);
    if (waits && this.#mayBuild()) return;
    this.#placeIndex();
    this.#wasIdle = true;
    this.#idle.resolve();
    this.#idle = undefined;
  }

  /** The index of shards, for those who fetch them all. */
  #placeIndex(): void {
    if (this.#isListed) return;
    this.#isListed = true;
    this.#listedMs = this.#options.clock.monotonicMs();
    this.#auxiliary.place('crl/index.json', indexOf(this.#shards.values()));
  }
}
