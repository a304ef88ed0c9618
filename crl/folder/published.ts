import fs, {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { promisify } from 'node:util';
import type { FeedCursor } from '../../core/feed/feed.ts';
import type { Freshness, Publication, PublishedHere } from '../../core/model/publication.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { basePath, deltaPath } from '../encode/names.ts';
import { transaction } from '../entries/transaction.ts';

/** One published CRL. */
export interface PublishedCrl {
  readonly number: number;
  readonly thisUpdateMs: number;
  /** For when the list was known to be right; absent where that is thisUpdate. */
  readonly knownMs?: number;
  readonly nextUpdateMs: number;
  readonly octets: number;
  /** Of the file, or a little earlier: rises by a second at least from one version to the next, as HTTP compares them. */
  readonly lastModifiedMs: number;
}

/** What is published of one shard. */
export interface PublishedShard {
  readonly path: string;
  /** The greatest number that any CRL of it has had. */
  readonly number: number;
  readonly complete: PublishedCrl;
  /** The complete CRL that delta CRLs go on from: the last one that was issued by schedule. */
  readonly base: Pick<PublishedCrl, 'number' | 'thisUpdateMs' | 'knownMs'>;
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

/** CRLs to replace those that are published. Where `isBase`, the complete one becomes the base of deltas; where it is another, that is `base`. */
export interface Replacement {
  readonly complete: Bytes | null;
  readonly base?: Bytes;
  readonly delta: Bytes | null;
  readonly isBase: boolean;
  readonly shard: PublishedShard;
}

const open = promisify(fs.open);
const write = promisify(fs.write);
const futimes = promisify(fs.futimes);
const fdatasync = promisify(fs.fdatasync);
const fsync = promisify(fs.fsync);
const close = promisify(fs.close);

/** A file on its way to its place. */
interface Successor {
  readonly from: string;
  readonly to: string;
  /** null for what is another's link. */
  readonly octets: Bytes | null;
  /** undefined where the time at which it is written will do. */
  readonly modifiedMs: number | undefined;
  /** The link to it that is moved too. */
  readonly linkTo: string | undefined;
}

const ddl = `CREATE TABLE IF NOT EXISTS shard (
  path TEXT PRIMARY KEY, fence INTEGER NOT NULL, owner TEXT NOT NULL, untilMs INTEGER NOT NULL, published TEXT) STRICT;
  CREATE INDEX IF NOT EXISTS shardByNumber ON shard (json_extract(published, '$.number'))`;
/** How long another publisher may hold the lock on the state: the time of some renames. */
const lockedMs = 5000;

/**
 * The folder that is published, with the state that several publishers share: who may publish a shard, and what is
 * published of it. A shard's files are replaced only by the holder of its lease, and only if what is published is what
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

  /** Shards of which a CRL with a greater number is published, by that number. */
  above(number: number): { readonly path: string; readonly number: number }[] {
    const rows = this.#database
      .prepare(
        `SELECT path, json_extract(published, '$.number') AS number FROM shard
           WHERE json_extract(published, '$.number') > ? ORDER BY json_extract(published, '$.number')`,
      )
      .all(number);
    return rows.map((row) => ({ path: String(row.path), number: Number(row.number) }));
  }

  /** See `Published`. */
  freshness(after: string, limit: number): Freshness[] {
    const rows = this.#database
      .prepare('SELECT published FROM shard WHERE path > ? AND published IS NOT NULL ORDER BY path LIMIT ?')
      .all(after, limit);
    return rows.map(({ published }) => {
      const { path, complete, delta } = JSON.parse(String(published)) as PublishedShard;
      const { number, octets, thisUpdateMs, nextUpdateMs } = complete;
      return {
        path,
        number,
        octets,
        thisUpdateMs,
        nextUpdateMs,
        deltaNextUpdateMs: delta?.nextUpdateMs ?? null,
      };
    });
  }

  /** All that is published of a shard, of one moment; undefined where nothing is. */
  publication(path: string): Publication | undefined {
    // While it is read nothing is replaced.
    return transaction(this.#database, () => {
      // A path that a caller sends is looked up before any file is.
      const shard = publishedOf(this.#get.get(path));
      if (!shard) return undefined;
      const { complete, base, delta } = this.read(path);
      if (!complete) return undefined;
      return {
        ...{ path, number: shard.number, described: JSON.stringify(shard), complete },
        ...{ base: base === undefined || base === complete ? null : base, delta: delta ?? null },
      };
    });
  }

  /** The lease of a shard; undefined while another has it. */
  lease(path: string, nowMs: number): Lease | undefined {
    return transaction(this.#database, () => {
      const row = this.#get.get(path);
      // One that would last longer than any was given by a clock that was ahead.
      const leftMs = Number(row?.untilMs ?? 0) - nowMs;
      if (row && row.owner !== this.#owner && leftMs > 0 && leftMs <= this.#leaseMs) return undefined;
      const fence = row?.owner === this.#owner ? Number(row.fence) : Number(row?.fence ?? 0) + 1;
      this.#put.run(path, fence, this.#owner, nowMs + this.#leaseMs, row?.published ?? null);
      return { path, fence, published: publishedOf(row) };
    });
  }

  /** Gives a lease back. */
  release({ path, fence }: Lease): void {
    transaction(this.#database, () => {
      const row = this.#get.get(path);
      if (row?.owner !== this.#owner || Number(row.fence) !== fence) return;
      this.#put.run(path, fence, this.#owner, 0, row.published ?? null);
    });
  }

  /** What is known to be published of a shard. */
  published(path: string): PublishedShard | undefined {
    return publishedOf(this.#get.get(path));
  }

  /** What is published of a shard. From the page cache, or from a disk that this thread waits for: it has nothing else to do. */
  read(path: string): ShardFiles {
    const [complete, base, delta] = [path, basePath(path), deltaPath(path)].map((each) =>
      join(this.#folder, each),
    );
    const octets = readIfThere(complete ?? '');
    return {
      complete: octets,
      // Most of the time they are one file of two names.
      base: isSameFile(complete ?? '', base ?? '') ? octets : readIfThere(base ?? ''),
      delta: readIfThere(delta ?? ''),
    };
  }

  /** Replaces a shard's files, and ends the lease. False, and nothing is changed, where the lease is another's by now. */
  async replace(lease: Lease, replacement: Replacement): Promise<boolean> {
    const { path } = lease;
    const successors = this.#successors(lease, replacement);
    const letGo = hold(join(this.#folder, replacement.isBase ? basePath(path) : path));
    let isReplaced = false;
    try {
      await allOf(
        successors.map(({ octets, from, modifiedMs }) => octets && writeDurably(from, octets, modifiedMs)),
      );
      for (const { from, linkTo } of successors) if (linkTo) linkSync(from, linkTo);
      isReplaced = transaction(this.#database, () => {
        const row = this.#get.get(path);
        const isOurs = row?.owner === this.#owner && Number(row.fence) === lease.fence;
        if (!isOurs || publishedOf(row)?.number !== lease.published?.number) return false;
        for (const { from, to } of successors) moveTo(from, to);
        if (!replacement.shard.delta) rmSync(join(this.#folder, deltaPath(path)), { force: true });
        this.#put.run(path, lease.fence, this.#owner, 0, JSON.stringify(replacement.shard));
        return true;
      });
    } finally {
      if (!isReplaced) for (const { from } of successors) rmSync(from, { force: true });
      await allOf([letGo(), isReplaced ? syncFolder(join(this.#folder, dirname(path))) : null]);
    }
    return isReplaced;
  }

  /** Files to be written and moved, in that order: the delta last, for one that is newer than its complete CRL has no base. */
  #successors(
    { path, published }: Lease,
    { complete, base: otherBase, delta, isBase, shard }: Replacement,
  ): Successor[] {
    const place = (to: string, octets: Bytes | null, modifiedMs?: number): Successor => ({
      from: this.#newFile(to),
      to: join(this.#folder, to),
      octets,
      modifiedMs,
      linkTo: undefined,
    });
    const successors: Successor[] = [];
    if (complete) {
      const first = place(path, complete, setModified(shard.complete, published?.complete));
      const base = place(basePath(path), null);
      successors.push({ ...first, linkTo: isBase ? base.from : undefined });
      if (isBase) successors.push(base);
    }
    if (otherBase) successors.push(place(basePath(path), otherBase));
    if (delta) successors.push(place(deltaPath(path), delta, setModified(shard.delta, published?.delta)));
    return successors;
  }

  /** Publishes a file that is of no shard, in one step. */
  async place(path: string, octets: Bytes): Promise<void> {
    const from = this.#newFile(path);
    await writeDurably(from, octets);
    moveTo(from, join(this.#folder, path));
  }

  /** Removes what publishers left that ended in the middle of their work. */
  clear(nowMs: number): void {
    const living = this.#database.prepare('SELECT owner FROM shard WHERE untilMs > ?').all(nowMs);
    const owners = new Set(living.map(({ owner }) => owner));
    for (const owner of readdirSync(join(this.#folder, '.new'))) {
      if (owner === this.#owner || owners.has(owner)) continue;
      rmSync(join(this.#folder, '.new', owner), { recursive: true, force: true });
    }
  }

  /** Where the successor of a file is written: on the same file system, under a name that no other process uses. */
  #newFile(path: string): string {
    return join(this.#folder, '.new', this.#owner, path.replaceAll('/', '_'));
  }

  close(): void {
    this.#database.close();
  }
}

/** What a folder holds, for nodes that take it from there. */
export const publishedIn = (folder: () => PublishedFolder): PublishedHere => ({
  above: async (number) => folder().above(number),
  get: async (path) => folder().publication(path),
  freshness: async (after, limit) => folder().freshness(after, limit),
});

function publishedOf(row: Record<string, SQLOutputValue> | undefined): PublishedShard | undefined {
  return typeof row?.published === 'string' ? (JSON.parse(row.published) as PublishedShard) : undefined;
}

/** Longer than a build takes: versions that are so far apart are apart by the time at which they are written, too. */
const apartMs = 60_000;

function setModified(next: PublishedCrl | null, before: PublishedCrl | null | undefined): number | undefined {
  if (!next || !before || next.lastModifiedMs - before.lastModifiedMs > apartMs) return undefined;
  return next.lastModifiedMs;
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function readIfThere(file: string): Bytes | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if (!isMissing(error)) throw error;
    return undefined;
  }
}

/** Makes the folder where there is none: seldom, so that it need not be asked for each time. */
function inFolderOf<R>(file: string, act: () => R): R {
  try {
    return act();
  } catch (error) {
    if (!isMissing(error)) throw error;
    mkdirSync(dirname(file), { recursive: true });
    return act();
  }
}

const moveTo = (from: string, to: string): void => inFolderOf(to, () => renameSync(from, to));

function isSameFile(a: string, b: string): boolean {
  const [first, second] = [a, b].map((file) => fs.statSync(file, { throwIfNoEntry: false }));
  return first !== undefined && first.ino === second?.ino;
}

/** Waits for all, also where one fails: what still runs would write to what is being cleared away. */
async function allOf(running: readonly (Promise<void> | null)[]): Promise<void> {
  const results = await Promise.allSettled(running);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

/** All of it by other threads: whatever makes or changes a file may have to wait for the disk. */
async function writeDurably(file: string, octets: Bytes, modifiedMs?: number): Promise<void> {
  const descriptor = await openNew(file);
  try {
    for (let at = 0; at < octets.length; ) at += (await write(descriptor, octets, at)).bytesWritten;
    if (modifiedMs !== undefined) await futimes(descriptor, modifiedMs / 1000, modifiedMs / 1000);
    await fdatasync(descriptor);
  } finally {
    await close(descriptor);
  }
}

async function openNew(file: string): Promise<number> {
  try {
    return await open(file, 'w', 0o644);
  } catch (error) {
    if (!isMissing(error)) throw error;
    // Another publisher may have cleared away what it took for left behind.
    mkdirSync(dirname(file), { recursive: true });
    return open(file, 'w', 0o644);
  }
}

async function syncFolder(folder: string): Promise<void> {
  const descriptor = openSync(folder, 'r');
  try {
    await fsync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Keeps a file's octets until it is called again: what is replaced is given back to the file system when its last
 * descriptor is closed, which takes a while, and is better left to another thread.
 */
function hold(file: string): () => Promise<void> {
  try {
    const descriptor = openSync(file, 'r');
    return () => close(descriptor);
  } catch (error) {
    if (!isMissing(error)) throw error;
    return async () => undefined;
  }
}
