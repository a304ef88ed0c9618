import type { Logger } from 'pino';
import type { ParsedCrl } from '../../core/asn1/crl-reader.ts';
import type { Publication, PublicationChange, Publications } from '../../core/model/publication.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { coalesced } from '../../core/runtime/coalesced.ts';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import { describedShard } from '../folder/described.ts';
import { PublishedFolder, type PublishedShard } from '../folder/published.ts';
import { checkPublished } from '../issue/issue.ts';

/** Changes that are looked at together. */
const atOnce = 500;
/** For how long the relay may have a shard to itself; replacing its files takes a fraction of a second. */
const leaseMs = 10_000;
/** A number is of when the CRL was made: one of so much later is none that will ever be reached. */
const aheadMs = 7 * 86_400_000;
/** Paths of which it is remembered that what is there cannot be used. */
const badMax = 1000;

/** What checking a shard's CRLs needs; undefined for a shard that has not been received yet. */
export type ShardOf = (
  path: string,
) => { readonly certificate: Bytes; readonly distributionPointName: Bytes } | undefined;

/**
 * Brings what another node publishes to this node's folder, verified: whichever node is asked, complete and delta CRLs are those of one
 * publisher. A node that begins to publish has all that was published before, and hands to the others what it alone has.
 */
export class Relay {
  readonly #publications: Publications;
  readonly #folder: PublishedFolder;
  readonly #shardOf: ShardOf;
  readonly #adopted: (shard: PublishedShard) => void;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #failures: FailureLog;
  readonly #look = coalesced(() => this.#failures.watch(() => this.#lookOnce()));
  /** What could not be used, by path: the reason, said once. */
  readonly #bad = new Map<string, string>();
  #change = 0;
  #hasTakenOver = false;
  #isStopped = false;

  /** null where there is one node alone. */
  static of(
    publications: Publications | null | undefined,
    options: Omit<ConstructorParameters<typeof Relay>[0], 'publications'>,
  ): Relay | null {
    return publications ? new Relay({ ...options, publications }) : null;
  }

  constructor(options: {
    readonly publications: Publications;
    /** The published folder, to which the relay writes as a publisher of its own. */
    readonly folder: string;
    readonly shardOf: ShardOf;
    /** Called with what was brought here. */
    readonly adopted: (shard: PublishedShard) => void;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#publications = options.publications;
    this.#folder = new PublishedFolder({ folder: options.folder, owner: crypto.randomUUID(), leaseMs });
    this.#shardOf = options.shardOf;
    this.#adopted = options.adopted;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#failures = new FailureLog(
      options.logger,
      'CRLs of other nodes cannot be fetched; it is tried again',
    );
  }

  /** Whether this node publishes now, and has what was published before. */
  isPublishing(): boolean {
    return this.#hasTakenOver && this.#publications.isPublisher();
  }

  /**
   * Hands over what this node is about to publish; see `Publications.put`. Where it was not taken, what is there is not what this node published last:
   * before it publishes more, both are brought together again.
   */
  async put(change: PublicationChange): Promise<boolean> {
    const isTaken = await this.#publications.put(change);
    if (!isTaken) this.#hasTakenOver = false;
    return isTaken;
  }

  /** Lets another node publish: this one cannot. */
  giveUp(): void {
    if (this.#publications.isPublisher()) this.#publications.giveUp();
  }

  /** Brings what was published elsewhere; takes over where this node is the one to publish. Where that fails the log says so, once for each reason. */
  async look(): Promise<void> {
    if (!this.#isStopped) await this.#look();
  }

  /** Ends once what is under way is done. */
  async close(): Promise<void> {
    this.#isStopped = true;
    await this.#look();
    this.#folder.close();
  }

  async #lookOnce(): Promise<void> {
    if (this.#isStopped) return;
    const isPublisher = this.#publications.isPublisher();
    if (isPublisher && this.#hasTakenOver) return;
    if (isPublisher) this.#change = 0;
    await this.#fetch();
    if (isPublisher) await this.#handOver();
    this.#hasTakenOver = isPublisher && this.#publications.isPublisher();
  }

  /** Brings all that was published since. What cannot be used yet is tried again by the next call; it keeps nothing else from here. */
  async #fetch(): Promise<void> {
    let isWhole = true;
    for (let at = Math.max(0, this.#change - this.#publications.lateBy); ; ) {
      const changes = await this.#publications.after(at, atOnce);
      for (const { path, number, change } of changes) {
        const isHere = (this.#folder.published(path)?.number ?? 0) >= number || this.#isTooHigh(number);
        if (!isHere && !(await this.#fetchOne(path))) isWhole = false;
        if (isWhole && !this.#isTooHigh(number)) this.#change = change;
      }
      const last = changes.at(-1)?.change ?? at;
      if (changes.length < atOnce || last === at) return;
      at = last;
    }
  }

  #isTooHigh(number: number): boolean {
    return number > this.#clock.wallMs() + aheadMs;
  }

  /** Hands over what this node has published, and the others do not have. */
  async #handOver(): Promise<void> {
    const known = await this.#publications.numbers();
    for (const { path, number } of this.#folder.all()) {
      const seenNumber = known.get(path) ?? 0;
      if (number <= seenNumber) continue;
      const publication = this.#folder.publication(path);
      if (!publication) continue;
      const { base, ...others } = publication;
      await this.#publications.put({
        ...{ ...others, seenNumber, isBase: base === null, ...(base ? { base } : {}) },
      });
    }
  }

  /** Whether it is here now, or never will be of use. */
  async #fetchOne(path: string): Promise<boolean> {
    const shard = this.#shardOf(path);
    // The feed brings it within moments.
    if (!shard) return false;
    const publication = await this.#publications.get(path);
    if (!publication) return true;
    const checked = this.#checked(publication, shard);
    if (typeof checked === 'string') {
      this.#say(path, checked);
      return true;
    }
    this.#bad.delete(path);
    return this.#replace(publication, checked);
  }

  /** What a publication is of, or why it is not believed. */
  #checked(
    { path, number, complete, base, delta, described }: Publication,
    shard: Parameters<typeof checkPublished>[1],
  ): PublishedShard | string {
    let crls: { complete: ParsedCrl; base: ParsedCrl | null; delta: ParsedCrl | null };
    try {
      crls = {
        complete: checkPublished(complete, shard),
        base: base && checkPublished(base, shard),
        delta: delta && checkPublished(delta, shard),
      };
    } catch (error) {
      return (error as Error).message;
    }
    const published = describedShard(described);
    if (!published || published.path !== path || published.number !== number)
      return 'it is described as another';
    const own = [crls.complete.number, (crls.base ?? crls.complete).number, crls.delta?.number ?? null];
    const said = [published.complete.number, published.base.number, published.delta?.number ?? null];
    if (String(own) !== String(said)) return 'its numbers are others than it is described with';
    if ((crls.delta?.baseNumber ?? null) !== (published.delta?.baseNumber ?? null))
      return 'its delta has another base';
    if (crls.complete.baseNumber !== null || number < crls.complete.number) return 'it is no complete CRL';
    const before = this.#folder.published(path);
    return before && before.complete.number > crls.complete.number
      ? 'it is earlier than the one that is published here'
      : published;
  }

  async #replace({ path, complete, base, delta }: Publication, shard: PublishedShard): Promise<boolean> {
    const lease = this.#folder.lease(path, this.#clock.wallMs());
    if (!lease) return false;
    // This node's own worker may have published meanwhile.
    if ((lease.published?.number ?? 0) >= shard.number) {
      this.#folder.release(lease);
      return true;
    }
    const replacement = { complete, delta, isBase: base === null, shard, ...(base ? { base } : {}) };
    const isReplaced = await this.#folder.replace(lease, replacement);
    if (isReplaced) this.#adopted(shard);
    return isReplaced;
  }

  #say(path: string, reason: string): void {
    if (this.#bad.get(path) === reason) return;
    if (this.#bad.size >= badMax) this.#bad.clear();
    this.#bad.set(path, reason);
    this.#logger.error(
      {
        path,
        reason,
        act: 'find out who could write to the database; the node that publishes issues it again',
      },
      'ALARM: a CRL that another node published is not what its authority signed',
    );
  }
}
