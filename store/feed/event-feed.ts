import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type {
  Confirming,
  ConfirmingFollower,
  FeedBatch,
  FeedCursor,
  FeedEvent,
  FeedFollower,
  FeedSource,
  StatusFeed,
} from '../../core/feed/feed.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { coalesced } from '../../core/runtime/coalesced.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import { traced } from '../../core/runtime/tracing.ts';
import { leastOf, type Nodes, onlyNode, type Positions } from '../api/nodes.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { recordedWriters } from '../engine/heads.ts';
import { Elsewhere } from './elsewhere.ts';

/** A batch that has so many events, or octets, ends: bounds memory while a new follower catches up. */
const [batchMax, batchOctetsMax] = [5000, 16 * 2 ** 20];
/** A row has two hundred events at most, or a thousand sealed rows: a batch goes beyond its bounds by no more than so many rows. */
const rowsAtOnce = 25;

export const epochContext = (authority: string, epoch: number): string => `epoch:${authority}:${epoch}`;

interface Following {
  readonly follower: FeedFollower;
  positions: Readonly<Record<string, number>>;
}

/** The status feed read from the record's `event` table, so that it holds what other processes wrote too. */
export class RecordFeed implements StatusFeed, FeedSource {
  readonly #database: RecordDatabase;
  readonly #keyWrapper: KeyWrapper;
  readonly #clock: Clock;
  readonly #following = new Set<Following>();
  readonly #epochKeys = new Map<string, Promise<Bytes>>();
  readonly #deliverOnce = coalesced(() => this.#deliverAll());
  readonly #announceOnce = coalesced(() => this.#announce());
  readonly #nodes: Nodes;
  /** Followers in other processes that confirm. */
  readonly #elsewhere: Elsewhere;
  /** How far all followers have come. */
  #applied: Positions = {};
  /** Resolved whenever there may be news: what streams wait for. */
  #news = Promise.withResolvers<void>();

  readonly #seal: JournalSeal | null;

  /** With a `seal` batches with events carry a proof. */
  constructor(options: {
    readonly database: RecordDatabase;
    readonly keyWrapper: KeyWrapper;
    readonly clock: Clock;
    readonly seal?: JournalSeal;
    /** Who else writes the record. */
    readonly nodes?: Nodes;
    readonly elsewhere?: Elsewhere;
  }) {
    this.#seal = options.seal ?? null;
    this.#database = options.database;
    this.#keyWrapper = options.keyWrapper;
    this.#clock = options.clock;
    this.#nodes = options.nodes ?? onlyNode;
    this.#elsewhere = options.elsewhere ?? new Elsewhere({ clock: options.clock, file: null });
    // The next heartbeat says what could not be said now.
    this.#elsewhere.onChange(() => void this.#announceOnce().catch(() => undefined));
    this.#nodes.onNews((positions) => {
      const isNews = Object.entries(positions).some(
        ([writer, position]) => position > (this.#applied[writer] ?? 0),
      );
      // The next call brings what this one could not.
      if (isNews && this.#following.size > 0) this.deliver().catch(() => undefined);
    });
  }

  async follow(follower: FeedFollower, cursor: FeedCursor | undefined, signal: AbortSignal): Promise<void> {
    if (cursor) await this.#checkCursor(cursor);
    if (signal.aborted) return;
    const following: Following = { follower, positions: { ...cursor?.positions } };
    this.#following.add(following);
    signal.addEventListener('abort', () => this.#following.delete(following), { once: true });
    await this.deliver();
  }

  epochKey(authority: string, epoch: number): Promise<Bytes> {
    const context = epochContext(authority, epoch);
    const known = this.#epochKeys.get(context);
    if (known) return known;
    const loading = this.#unwrapEpochKey(authority, epoch);
    this.#epochKeys.set(context, loading);
    loading.catch(() => this.#epochKeys.delete(context));
    return loading;
  }

  /** Has the token unwrap the keys of all epochs on record, so that no follower needs the token for the first event of one. */
  async loadEpochKeys(): Promise<void> {
    const epochs = await this.#database.read((reader) => reader.find('epoch', {}));
    await Promise.all(epochs.map(({ authority, epoch }) => this.epochKey(authority, epoch)));
  }

  async #unwrapEpochKey(authority: string, epoch: number): Promise<Bytes> {
    const row = await this.#database.read((reader) => reader.get('epoch', { authority, epoch }));
    if (!row) throw new PkiError('not-found', `authority ${authority} has no epoch ${epoch}`);
    return this.#keyWrapper.unwrap(epochContext(authority, epoch), row.wrappedKey);
  }

  /**
   * Brings every follower in this process to what is committed when it is called. Calls that come while one waits share it: a thousand writers
   * of one commit cost one delivery.
   */
  deliver(): Promise<void> {
    return this.#deliverOnce();
  }

  /** The same with the followers of every node that may give answers: nothing that was taken back is called good by any of them any more. */
  async deliverEverywhere(): Promise<void> {
    await traced('deliver feed', {}, () => this.deliver());
    const committed = this.#applied;
    await traced('wait for nodes', {}, () =>
      Promise.all([this.#elsewhere.reached(committed), this.#nodes.reached(committed)]),
    );
  }

  confirming(follower: ConfirmingFollower, hasCursor: boolean, stop: () => void): Confirming {
    return this.#elsewhere.begin(follower, hasCursor, stop);
  }

  async *stream(cursor: FeedCursor | undefined, signal: AbortSignal): AsyncIterable<FeedBatch> {
    if (cursor) await this.#checkCursor(cursor);
    // An abort counts as news, so that one promise is waited for, and none outlives its wait.
    signal.addEventListener('abort', () => this.#tellStreams(), { once: true });
    let positions: Readonly<Record<string, number>> = { ...cursor?.positions };
    while (!signal.aborted) {
      // Before reading, so that news that comes meanwhile is not slept through.
      const news = this.#news.promise;
      const batch = await this.#nextBatch(positions);
      positions = batch.cursor.positions;
      yield batch;
      if (batch.watermarkMs > 0 && !signal.aborted) await news;
    }
  }

  async #deliverAll(): Promise<void> {
    this.#tellStreams();
    // One that fails keeps its place, and does not keep the others from theirs.
    const results = await Promise.allSettled(
      [...this.#following].map((following) => this.#catchUp(following)),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) {
      throw new PkiError('record-unavailable', 'a follower could not be brought up to date', {
        cause: failed.reason,
      });
    }
    const [first, ...others] = [...this.#following].map(({ positions }) => positions);
    if (!first) return;
    // Each has read by itself, and one may have read what was committed after another had.
    this.#applied = others.reduce<Positions>(leastOf, first);
    await this.#announce();
  }

  /** Tells other nodes what there is, and what all followers of this one have applied. */
  async #announce(): Promise<void> {
    // As it was before it is asked who may answer: one that connects meanwhile has read no less.
    const applied = this.#applied;
    const confirmed = await this.#elsewhere.least();
    this.#nodes.announce(applied, confirmed ? leastOf(applied, confirmed) : applied);
  }

  #tellStreams(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  async #catchUp(following: Following): Promise<void> {
    for (let more = true; more && this.#following.has(following); ) {
      const batch = await this.#nextBatch(following.positions);
      more = batch.watermarkMs === 0;
      await following.follower.apply(batch);
      following.positions = batch.cursor.positions;
    }
  }

  async #nextBatch(after: Readonly<Record<string, number>>): Promise<FeedBatch> {
    // Before reading, so that everything committed earlier is in what is read.
    const completeMs = await this.#nodes.completeUntil(this.#clock.wallMs());
    const { incarnation, events, positions, isCut } = await this.#readAfter(after);
    // Of a batch that is cut short nothing is known beyond its events.
    const watermarkMs = isCut ? 0 : completeMs;
    const batch = { events, cursor: { incarnation, positions }, from: after };
    const proof = this.#seal && events.length > 0 ? { proof: this.#seal.prove(batch) } : {};
    return { ...batch, ...proof, watermarkMs };
  }

  async #readAfter(after: Readonly<Record<string, number>>) {
    return this.#database.read((reader) => {
      const incarnation = must(reader.get('meta', { name: 'incarnation' })?.value, 'incarnation');
      const positions: Record<string, number> = { ...after };
      const events: FeedEvent[] = [];
      let octets = 0;
      const isFull = (): boolean => events.length >= batchMax || octets >= batchOctetsMax;
      for (const writer of recordedWriters(reader)) {
        for (let isLast = false; !isLast && !isFull(); ) {
          const after = positions[writer] ?? 0;
          const rows = reader.find('event', { writer }, { after, limit: rowsAtOnce });
          for (const { body } of rows) {
            events.push(...(JSON.parse(body) as FeedEvent[]));
            octets += body.length;
          }
          positions[writer] = rows.at(-1)?.position ?? after;
          isLast = rows.length < rowsAtOnce;
        }
      }
      return { incarnation, events: unlinked(events), positions, isCut: isFull() };
    });
  }

  async #checkCursor(cursor: FeedCursor): Promise<void> {
    await this.#database.read((reader) => {
      const incarnation = reader.get('meta', { name: 'incarnation' });
      if (incarnation?.value !== cursor.incarnation) {
        throw new PkiError('not-found', 'the cursor is of another incarnation of the record');
      }
      for (const [writer, position] of Object.entries(cursor.positions)) {
        const [head] = reader.find('event', { writer }, { descending: true, limit: 1 });
        if (position > (head?.position ?? 0))
          throw new PkiError('not-found', 'the cursor is beyond the record');
      }
    });
  }
}

/** What others build on comes first. */
const rank: Readonly<Record<FeedEvent['type'], number>> = {
  ...{ authority: 0, link: 1, epoch: 2, shard: 3, 'device-class': 4, device: 5, restriction: 6, status: 7 },
  ...{ verifier: 8, sealed: 9 },
};

/**
 * Events in an order that does not say which of them were recorded together: those of one certificate stay in their order, and those of a
 * pair lie apart, where the batch is of more than one.
 */
function unlinked(events: readonly FeedEvent[]): FeedEvent[] {
  const placed = events.map((event) => ({
    event,
    rank: rank[event.type],
    authority: 'authority' in event ? event.authority : '',
    epoch: 'epoch' in event ? event.epoch : 0,
    position: 'position' in event ? event.position : 0,
  }));
  placed.sort(
    (a, b) =>
      a.rank - b.rank ||
      (a.authority < b.authority ? -1 : a.authority > b.authority ? 1 : 0) ||
      a.epoch - b.epoch ||
      a.position - b.position,
  );
  return placed.map(({ event }) => event);
}
