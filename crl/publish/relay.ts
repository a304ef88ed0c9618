import type { Logger } from 'pino';
import type { Publication, Publications } from '../../core/model/publication.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { coalesced } from '../../core/runtime/coalesced.ts';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import type { PublishedFolder, PublishedShard } from '../folder/published.ts';
import { checkPublished } from '../issue/issue.ts';

/** Changes that are looked at together. */
const atOnce = 500;

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
  #change = 0;
  #said = '';
  #hasTakenOver = false;
  readonly #look = coalesced(() => this.#failures.watch(() => this.#lookOnce()));
  readonly #failures: FailureLog;

  constructor(options: {
    readonly publications: Publications;
    readonly folder: PublishedFolder;
    readonly shardOf: ShardOf;
    /** Called with what was brought here. */
    readonly adopted: (shard: PublishedShard) => void;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#publications = options.publications;
    this.#folder = options.folder;
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

  /** Brings what was published elsewhere; takes over where this node is the one to publish. Where that fails the log says so, once for each reason. */
  async look(): Promise<void> {
    await this.#look();
  }

  async #lookOnce(): Promise<void> {
    await this.#fetch();
    if (this.#publications.isPublisher() && !this.#hasTakenOver) await this.#handOver();
    this.#hasTakenOver = this.#publications.isPublisher();
  }

  /** Brings all that was published since, in its order. What cannot be used yet is tried again by the next call, and all behind it. */
  async #fetch(): Promise<void> {
    for (let at = Math.max(0, this.#change - this.#publications.lateBy); ; ) {
      const changes = await this.#publications.after(at, atOnce);
      for (const { path, number, change } of changes) {
        const isHere = (this.#folder.published(path)?.number ?? 0) >= number;
        if (!isHere && !(await this.#fetchOne(path))) return;
        at = change;
        this.#change = Math.max(this.#change, change);
      }
      if (changes.length < atOnce) return;
    }
  }

  /** Hands over what this node has published, and the others do not have. */
  async #handOver(): Promise<void> {
    const known = await this.#publications.numbers();
    for (const shard of this.#folder.all()) {
      if (shard.number <= (known.get(shard.path) ?? 0)) continue;
      const { path, number } = shard;
      const { complete, base, delta } = this.#folder.read(path);
      if (!complete) continue;
      const isBase = base === complete;
      await this.#publications.put({
        ...{ path, number, described: JSON.stringify(shard), seenNumber: known.get(path) ?? 0 },
        ...{ complete, delta: delta ?? null, isBase, ...(base && !isBase ? { base } : {}) },
      });
    }
  }

  async #fetchOne(path: string): Promise<boolean> {
    const publication = await this.#publications.get(path);
    return publication === undefined || this.#adopt(publication);
  }

  /** Whether it is here now, or never will be of use. */
  async #adopt({ path, complete, base, delta, described }: Publication): Promise<boolean> {
    const shard = this.#shardOf(path);
    // The feed brings it within moments.
    if (!shard) return false;
    try {
      for (const octets of [complete, base, delta]) if (octets) checkPublished(octets, shard);
    } catch (error) {
      this.#say(path, (error as Error).message);
      return true;
    }
    const lease = this.#folder.lease(path, this.#clock.wallMs());
    if (!lease) return false;
    const published = JSON.parse(described) as PublishedShard;
    const replacement = {
      complete,
      delta,
      isBase: base === null,
      shard: published,
      ...(base ? { base } : {}),
    };
    const isReplaced = await this.#folder.replace(lease, replacement);
    if (isReplaced) this.#adopted(published);
    return isReplaced;
  }

  #say(path: string, reason: string): void {
    if (this.#said === `${path} ${reason}`) return;
    this.#said = `${path} ${reason}`;
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
