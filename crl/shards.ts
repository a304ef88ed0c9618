import type { Bytes } from '../core/bytes.ts';
import type {
  AuthorityEvent,
  FeedBatch,
  FeedFollower,
  ShardEvent,
  StatusEvent,
  StatusFeed,
} from '../core/feed.ts';
import { SerialCipher } from '../core/serial.ts';
import { encodeCrlEntry } from './encode.ts';

export interface ShardState {
  readonly shard: string;
  /** Undefined until the feed has said what the shard is called. */
  definition: ShardDefinition | undefined;
  /** Entries as they stand in the CRL, by certificate. */
  readonly entries: Map<string, Bytes>;
  /** Of each certificate that is not simply issued: its version, and whether it has been revoked for good. */
  readonly known: Map<string, { readonly version: number; readonly revoked: boolean }>;
}

export interface ShardDefinition {
  readonly authority: string;
  readonly distributionPointName: Bytes;
  readonly path: string;
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
      if (event.type === 'status') await this.#applyStatus(event);
      else if (event.type === 'shard') this.#defineShard(event);
      else if (event.type === 'epoch') await this.#openEpoch(event.authority, event.epoch);
      else this.#addAuthority(event);
    }
    this.#watermarkMs = Math.max(this.#watermarkMs, batch.watermarkMs);
    // Of a batch that is cut short, or played back, nothing is known beyond its events: nothing is published by it.
    if (batch.watermarkMs > 0 && this.dirty.size > 0) this.#onDirty();
  }

  /** Keeps what has the highest version; and, whatever a feed may say, revoked stays revoked. */
  async #applyStatus(event: StatusEvent): Promise<void> {
    if (event.shard === null) return;
    const { entries, known } = this.#shard(event.shard);
    const name = `${event.epoch}:${event.position}`;
    const { version, state, revokedMs, reason, invalidityMs } = event;
    const before = known.get(name);
    const revoked = state === 'revoked';
    if (version <= (before?.version ?? 0) || (before?.revoked && !revoked)) return;
    // A certificate that is merely issued is neither listed nor remembered.
    if (version > 1 || state !== 'good') known.set(name, { version, revoked });
    if ((state === 'held' || revoked) && revokedMs !== null) {
      const serial = (await this.#openEpoch(event.authority, event.epoch)).encrypt(event.position);
      entries.set(name, encodeCrlEntry({ serial, revokedMs, reason, invalidityMs }));
      this.dirty.add(event.shard);
    } else if (entries.delete(name)) {
      this.dirty.add(event.shard);
    }
  }

  /** Shards that were waiting for their issuer can be published now. */
  #addAuthority({ authority, certificate }: AuthorityEvent): void {
    this.authorities.set(authority, Buffer.from(certificate, 'base64'));
    for (const { shard, definition } of this.shards.values())
      if (definition?.authority === authority) this.dirty.add(shard);
  }

  #defineShard({ shard, authority, distributionPointName, path }: ShardEvent): void {
    const state = this.#shard(shard);
    if (state.definition) return;
    state.definition = {
      authority,
      path,
      distributionPointName: Buffer.from(distributionPointName, 'base64'),
    };
    this.dirty.add(shard);
  }

  /** Events may come in any order: whichever first speaks of a shard or an epoch opens it. */
  #shard(shard: string): ShardState {
    const known = this.shards.get(shard);
    if (known) return known;
    const opened: ShardState = { shard, definition: undefined, entries: new Map(), known: new Map() };
    this.shards.set(shard, opened);
    return opened;
  }

  async #openEpoch(authority: string, epoch: number): Promise<SerialCipher> {
    const name = `${authority}:${epoch}`;
    const known = this.#ciphers.get(name);
    if (known) return known;
    const cipher = new SerialCipher(epoch, await this.#feed.epochKey(authority, epoch));
    this.#ciphers.set(name, cipher);
    return cipher;
  }
}
