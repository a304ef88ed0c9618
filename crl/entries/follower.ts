import { SerialCipher } from '../../core/crypto/serial.ts';
import type { FeedBatch, FeedFollower, StatusEvent, StatusFeed } from '../../core/feed/feed.ts';
import { isAuthorityName, isLinkName } from '../../core/model/kinds.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { encodeCrlEntry } from '../encode/encode.ts';
import { isCrlPath } from '../encode/names.ts';
import type { EntryStore, FeedUpdate, Shard, StatusChange } from './entry-store.ts';
import type { PhoneChange } from './phone-store.ts';

/** What a follower reports to the publisher. */
export interface Listener {
  /** Authorities' certificates, and what shards are called. */
  learnt(news: { readonly authorities: FeedUpdate['authorities']; readonly shards: readonly Shard[] }): void;
  /** Verifiers that are new on the register, or other than they were. Resolves once requests are answered by it. */
  registered?(verifiers: readonly VerifierFacts[]): Promise<void>;
  /** Of these shards the published CRL may no longer be right. */
  changed(shards: Iterable<number>): void;
  /** Wall-clock milliseconds at which what is remembered is known to be right; zero while it is not. */
  received(watermarkMs: number): void;
}

/** Follows the feed and nothing else: turns its events into CRL entries, and has them remembered with how far it has come. */
export class CrlFollower implements FeedFollower {
  readonly #feed: Pick<StatusFeed, 'epochKey'>;
  readonly #store: EntryStore;
  readonly #listener: Listener;
  readonly #ciphers = new Map<string, SerialCipher>();

  constructor(options: { feed: Pick<StatusFeed, 'epochKey'>; store: EntryStore; listener: Listener }) {
    this.#feed = options.feed;
    this.#store = options.store;
    this.#listener = options.listener;
  }

  async apply(batch: FeedBatch): Promise<void> {
    if (batch.events.length > 0) await this.#learn(batch);
    // Of a batch that is cut short nothing is known beyond its events: nothing is published by it.
    this.#listener.received(batch.watermarkMs);
  }

  async #learn({ events, cursor, watermarkMs: knownMs }: FeedBatch): Promise<void> {
    const authorities: { authority: string; certificate: Bytes }[] = [];
    const shards: FeedUpdate['shards'][number][] = [];
    const changes: StatusChange[] = [];
    const verifiers: VerifierFacts[] = [];
    const phones: PhoneChange[] = [];
    const restricted: FeedUpdate['restricted'][number][] = [];
    for (const event of events) {
      if (event.type === 'status') {
        const change = await this.#changeOf(event);
        if (change) changes.push(change);
      } else if (event.type === 'device') {
        const { type: _, shard, ...phone } = event;
        if (shard !== null) phones.push({ ...phone, shard });
      } else if (event.type === 'device-class' || event.type === 'restriction') restricted.push(event);
      else if (event.type === 'authority') {
        // It becomes the name of a file.
        if (!isAuthorityName(event.authority))
          throw new PkiError('bad-request', 'the feed has an authority whose name is none');
        authorities.push({
          authority: event.authority,
          certificate: Buffer.from(event.certificate, 'base64'),
        });
      } else if (event.type === 'verifier') {
        const { type: _, ...facts } = event;
        verifiers.push(facts);
      } else if (event.type === 'link') {
        if (!isLinkName(event.link))
          throw new PkiError('bad-request', 'the feed has a link whose name is none');
        // Published as certificates of authorities are; no shard is under its name.
        authorities.push({ authority: event.link, certificate: Buffer.from(event.certificate, 'base64') });
      } else if (event.type === 'shard') {
        const { shard, authority, path } = event;
        if (!isCrlPath(path)) throw new PkiError('bad-request', `a shard with the path ${path}`);
        const distributionPointName = Buffer.from(event.distributionPointName, 'base64');
        shards.push({ shard, authority, path, distributionPointName });
      }
    }
    const { changed, defined } = this.#store.learn({
      ...{ authorities, shards, changes, phones, restricted, verifiers, cursor, knownMs },
    });
    if (verifiers.length > 0) await this.#listener.registered?.(verifiers);
    this.#listener.learnt({ authorities, shards: defined });
    this.#listener.changed(changed);
  }

  /** A certificate that is merely issued is neither listed nor remembered; one that ends leaves by itself. */
  async #changeOf(event: StatusEvent): Promise<StatusChange | undefined> {
    const { shard, authority, epoch, position, version, state, revokedMs, reason, invalidityMs } = event;
    const isListed = (state === 'held' || state === 'revoked') && revokedMs !== null;
    const isReleased = state === 'good' && version > 1;
    if (shard === null || !(isListed || isReleased)) return undefined;
    const entry = isListed
      ? encodeCrlEntry({
          serial: (await this.#cipher(authority, epoch)).encrypt(position),
          revokedMs,
          reason,
          invalidityMs,
        })
      : new Uint8Array();
    return {
      shard,
      epoch,
      position,
      version,
      entry,
      state: state === 'good' ? 'released' : state === 'held' ? 'held' : 'revoked',
      notAfterMs: event.notAfterMs,
    };
  }

  async #cipher(authority: string, epoch: number): Promise<SerialCipher> {
    const name = `${authority}:${epoch}`;
    const known = this.#ciphers.get(name);
    if (known) return known;
    const cipher = new SerialCipher(epoch, await this.#feed.epochKey(authority, epoch));
    this.#ciphers.set(name, cipher);
    return cipher;
  }
}
