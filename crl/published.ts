import { mkdirSync, renameSync } from 'node:fs';
import { link, mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import type { Bytes } from '../core/bytes.ts';
import { PkiError } from '../core/errors.ts';
import type { FeedCursor } from '../core/feed.ts';
import { basePath, deltaPath } from './names.ts';

/** One published CRL. */
export interface PublishedCrl {
  readonly number: number;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly octets: number;
  /** Hex. */
  readonly sha256: string;
  /** Of the file: rises by a second at least from one version to the next, as HTTP tells them apart. */
  readonly lastModifiedMs: number;
}

/** What is published of one shard. */
export interface PublishedShard {
  readonly path: string;
  /** The greatest number that any CRL of it has had. */
  readonly number: number;
  readonly complete: PublishedCrl;
  /** The complete CRL that delta CRLs go on from: the last one that was issued by schedule. */
  readonly base: Pick<PublishedCrl, 'number' | 'thisUpdateMs'>;
  readonly delta: (PublishedCrl & { readonly baseNumber: number }) | null;
  /** How far the feed had been followed. */
  readonly cursor: FeedCursor;
}

/** The right to publish one shard, for a while. */
export interface Lease {
  readonly path: string;
  /** Rises whenever the lease goes to another: who comes late with an older one publishes nothing. */
  readonly fence: number;
  readonly published: PublishedShard | undefined;
}

/** Octets of the CRLs of a shard that are published; undefined for what is not there. */
export interface ShardFiles {
  readonly complete: Bytes | undefined;
  readonly base: Bytes | undefined;
  readonly delta: Bytes | undefined;
}

/** CRLs to replace those that are published. Where `isBase`, the complete one becomes the base of deltas. */
export interface Replacement {
  readonly complete: Bytes | null;
  readonly delta: Bytes | null;
  readonly isBase: boolean;
  readonly shard: PublishedShard;
}

const ddl = `CREATE TABLE IF NOT EXISTS shard (
  path TEXT PRIMARY KEY, fence INTEGER NOT NULL, owner TEXT NOT NULL, untilMs INTEGER NOT NULL, published TEXT) STRICT`;
/** How long another publisher may hold the lock on the state: the time of some renames. */
const lockedMs = 5000;

/**
 * The folder that is published, with the state that several publishers share: who may publish a shard, and what is
 * published of it. A shard's files are replaced only by whoever holds its lease, and only if what is published is what
 * the new CRL was compared with (compare-and-swap). Readers see the old file or the new one, after a loss of power too.
 */
export class PublishedFolder {
  readonly #folder: string;
  readonly #owner: string;
  readonly #leaseMs: number;
  readonly #database: DatabaseSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;

  /** `owner` names one publisher, unlike any other there ever was. */
  constructor(options: { readonly folder: string; readonly owner: string; readonly leaseMs: number }) {
    this.#folder = options.folder;
    this.#owner = options.owner;
    this.#leaseMs = options.leaseMs;
    mkdirSync(join(options.folder, '.new', options.owner), { recursive: true });
    try {
      this.#database = new DatabaseSync(join(options.folder, '.state.db'), { timeout: lockedMs });
      this.#database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${ddl}`);
    } catch (error) {
      throw new PkiError('record-unavailable', 'the state of the published folder cannot be opened', {
        cause: error,
      });
    }
    this.#get = this.#database.prepare('SELECT * FROM shard WHERE path = ?');
    this.#put = this.#database.prepare('INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?)');
  }

  /** Everything that is published. */
  *all(): Iterable<PublishedShard> {
    for (const { published } of this.#database.prepare('SELECT published FROM shard').iterate()) {
      if (published !== null) yield JSON.parse(String(published)) as PublishedShard;
    }
  }

  /** The lease of a shard; undefined while another has it. */
  lease(path: string, nowMs: number): Lease | undefined {
    return this.#locked(() => {
      const row = this.#get.get(path);
      if (row && row.owner !== this.#owner && Number(row.untilMs) > nowMs) return undefined;
      const fence = row?.owner === this.#owner ? Number(row.fence) : Number(row?.fence ?? 0) + 1;
      this.#put.run(path, fence, this.#owner, nowMs + this.#leaseMs, row?.published ?? null);
      return { path, fence, published: publishedOf(row) };
    });
  }

  /** Gives a lease back. */
  release({ path, fence }: Lease): void {
    this.#locked(() => {
      const row = this.#get.get(path);
      if (row?.owner !== this.#owner || Number(row.fence) !== fence) return;
      this.#put.run(path, fence, this.#owner, 0, row.published ?? null);
    });
  }

  async read(path: string): Promise<ShardFiles> {
    const [complete, base, delta] = await Promise.all(
      [path, basePath(path), deltaPath(path)].map((each) => readIfThere(join(this.#folder, each))),
    );
    return { complete, base, delta };
  }

  /** Replaces a shard's files. False, and nothing is changed, where the lease is another's by now. */
  async replace(lease: Lease, replacement: Replacement): Promise<boolean> {
    const { path } = lease;
    await mkdir(join(this.#folder, dirname(path)), { recursive: true });
    const renames: [from: string, to: string][] = [];
    const prepare = async (octets: Bytes | null, to: string, modifiedMs: number): Promise<string> => {
      const from = join(this.#folder, '.new', this.#owner, to.replaceAll('/', '_'));
      if (octets) {
        await writeDurably(from, octets, modifiedMs);
        renames.push([from, join(this.#folder, to)]);
      }
      return from;
    };
    // The delta last: one that is older than its complete CRL is ignored, one that is newer would be without base.
    const { shard } = replacement;
    const complete = await prepare(replacement.complete, path, shard.complete.lastModifiedMs);
    if (replacement.complete && replacement.isBase) {
      const base = `${complete}.base`;
      await rm(base, { force: true });
      await link(complete, base);
      renames.push([base, join(this.#folder, basePath(path))]);
    }
    await prepare(replacement.delta, deltaPath(path), shard.delta?.lastModifiedMs ?? 0);
    const isReplaced = this.#locked(() => {
      const row = this.#get.get(path);
      const isOurs = row?.owner === this.#owner && Number(row.fence) === lease.fence;
      if (!isOurs || publishedOf(row)?.number !== lease.published?.number) return false;
      for (const [from, to] of renames) renameSync(from, to);
      this.#put.run(path, lease.fence, this.#owner, 0, JSON.stringify(shard));
      return true;
    });
    if (isReplaced) await syncFolder(join(this.#folder, dirname(path)));
    else for (const [from] of renames) await rm(from, { force: true });
    return isReplaced;
  }

  /** Publishes a file that is of no shard, in one step. */
  async place(path: string, octets: Bytes): Promise<void> {
    const from = join(this.#folder, '.new', this.#owner, path.replaceAll('/', '_'));
    await mkdir(join(this.#folder, dirname(path)), { recursive: true });
    await writeDurably(from, octets);
    renameSync(from, join(this.#folder, path));
  }

  /** Removes what publishers left that ended in the middle of their work. */
  async clear(nowMs: number): Promise<void> {
    const living = this.#database.prepare('SELECT owner FROM shard WHERE untilMs > ?').all(nowMs);
    const owners = new Set(living.map(({ owner }) => owner));
    for (const owner of await readdir(join(this.#folder, '.new'))) {
      if (owner === this.#owner || owners.has(owner)) continue;
      await rm(join(this.#folder, '.new', owner), { recursive: true, force: true });
    }
  }

  close(): void {
    this.#database.close();
  }

  #locked<R>(body: () => R): R {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
    } catch (error) {
      throw new PkiError('record-unavailable', 'the state of the published folder is locked', {
        cause: error,
      });
    }
    try {
      const result = body();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}

function publishedOf(row: Record<string, SQLOutputValue> | undefined): PublishedShard | undefined {
  return typeof row?.published === 'string' ? (JSON.parse(row.published) as PublishedShard) : undefined;
}

async function readIfThere(file: string): Promise<Bytes | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}

async function writeDurably(file: string, octets: Bytes, modifiedMs?: number): Promise<void> {
  // Another publisher may have cleared away what it took for left behind.
  await mkdir(dirname(file), { recursive: true });
  const handle = await open(file, 'w', 0o644);
  try {
    await handle.writeFile(octets);
    if (modifiedMs !== undefined) await handle.utimes(modifiedMs / 1000, modifiedMs / 1000);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
