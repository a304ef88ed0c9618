import type { Bytes } from '../core/bytes.ts';
import type { FeedBatch, FeedFollower, ShardEvent, StatusEvent, StatusFeed } from '../core/feed.ts';
import { SerialCipher } from '../core/serial.ts';
import { encodeCrlEntry } from './encode.ts';

export interface ShardState {
  readonly shard: string;
  readonly authority: string;
  readonly distributionPointName: Bytes;
  readonly path: string;
  /** Entries as they stand in the CRL, by certificate; a version for each certificate ever heard of twice. */
  readonly entries: Map<string, Bytes>;
  readonly versions: Map<string, number>;
}

/** What the publisher knows: it follows the feed and nothing else. */
export class ShardIndex implements FeedFollower {
  readonly #feed: Pick<StatusFeed, 'epochKey'>;
  readonly #ciphers = new Map<string, SerialCipher>();
  readonly shards = new Map<string, ShardState>();
  /** Certificates of the authorities there are, DER by name. */
  readonly authorities = new Map<string, Bytes>();
  /** Shards whose published CRL is no longer right. */
  readonly dirty = new Set<string>();
  #watermarkMs = 0;
  readonly #onDirty: () => void;

  constructor(feed: Pick<StatusFeed, 'epochKey'>, onDirty: () => void) {
    this.#feed = feed;
    this.#onDirty = onDirty;
  }

  get watermarkMs(): number {
    return this.#watermarkMs;
  }

  async apply(batch: FeedBatch): Promise<void> {
    for (const event of batch.events) {
      if (event.type === 'status') this.#applyStatus(event);
      else if (event.type === 'shard') this.#openShard(event);
      else if (event.type === 'epoch') await this.#openEpoch(event.authority, event.epoch);
      else this.authorities.set(event.authority, Buffer.from(event.certificate, 'base64'));
    }
    this.#watermarkMs = Math.max(this.#watermarkMs, batch.watermarkMs);
    if (this.dirty.size > 0) this.#onDirty();
  }

  #applyStatus(event: StatusEvent): void {
    if (event.shard === null) return;
    const shard = this.shards.get(event.shard);
    const cipher = this.#ciphers.get(`${event.authority}:${event.epoch}`);
    if (!shard || !cipher) throw new Error(`the feed speaks of shard ${event.shard} before opening it`);
    const name = `${event.epoch}:${event.position}`;
    const { version, state, revokedMs, reason, invalidityMs } = event;
    if (version <= (shard.versions.get(name) ?? 0)) return;
    // A certificate that is merely issued is neither listed nor remembered.
    if (version > 1) shard.versions.set(name, version);
    if ((state === 'held' || state === 'revoked') && revokedMs !== null) {
      const serial = cipher.encrypt(event.position);
      shard.entries.set(name, encodeCrlEntry({ serial, revokedMs, reason, invalidityMs }));
      this.dirty.add(event.shard);
    } else if (shard.entries.delete(name)) {
      this.dirty.add(event.shard);
    }
  }

  #openShard({ shard, authority, distributionPointName, path }: ShardEvent): void {
    if (this.shards.has(shard)) return;
    this.shards.set(shard, {
      shard,
      authority,
      path,
      distributionPointName: Buffer.from(distributionPointName, 'base64'),
      entries: new Map(),
      versions: new Map(),
    });
    this.dirty.add(shard);
  }

  async #openEpoch(authority: string, epoch: number): Promise<void> {
    const name = `${authority}:${epoch}`;
    if (this.#ciphers.has(name)) return;
    this.#ciphers.set(name, new SerialCipher(epoch, await this.#feed.epochKey(authority, epoch)));
  }
}
