import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { DeviceClassEvent, FeedCursor, RestrictionEvent } from '../../core/feed/feed.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import {
  bucketOf,
  bucketsPerShard,
  decodeBucket,
  encodeBucket,
  nameOf,
  type StoredEntry,
} from '../encode/bucket.ts';
import { type PhoneChange, PhoneStore, phoneTables } from './phone-store.ts';
import { type EpochKey, RestrictedEntries } from './restricted-entries.ts';
import { transaction } from './transaction.ts';

// What a publisher has learnt from the feed, in one SQLite file of its own: how far it has followed, the shards, and of
// each its entries. The feed can send it all again, so that a commit need not wait for the disk: what a loss of power takes
// away is taken together with the cursor.

const ddl = `
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS authority (authority TEXT PRIMARY KEY, certificate BLOB NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS verifier (verifierId TEXT PRIMARY KEY, version INTEGER NOT NULL, facts TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS shard (
    id INTEGER PRIMARY KEY, shard TEXT NOT NULL UNIQUE, authority TEXT, distributionPointName BLOB, path TEXT) STRICT;
  CREATE TABLE IF NOT EXISTS bucket (id INTEGER PRIMARY KEY, octets BLOB NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS changed (shard INTEGER PRIMARY KEY, batch INTEGER NOT NULL) STRICT;${phoneTables}`;

/** A CRL shard as certificates name it. */
export interface Shard {
  readonly id: number;
  readonly shard: string;
  readonly authority: string;
  /** DistributionPointName DER. */
  readonly distributionPointName: Bytes;
  readonly path: string;
}

/** A certificate's status, as it is to be remembered. */
export interface StatusChange extends StoredEntry {
  readonly shard: string;
}

/** What one batch of the feed changes. */
export interface FeedUpdate {
  readonly authorities: readonly { readonly authority: string; readonly certificate: Bytes }[];
  readonly shards: readonly Omit<Shard, 'id'>[];
  readonly changes: readonly StatusChange[];
  readonly phones: readonly PhoneChange[];
  /** In the order in which they were received. */
  readonly restricted: readonly (DeviceClassEvent | RestrictionEvent)[];
  /** When what is received is known to be right; 0 where that is not known. */
  readonly knownMs: number;
  readonly verifiers: readonly VerifierFacts[];
  readonly cursor: FeedCursor;
}

const bucketId = (shard: number, bucket: number): number => shard * bucketsPerShard + bucket;
/** More than one process may have the file open for a moment: one that ends, and the next. */
const lockedMs = 5000;

function openDatabase(file: string, readOnly: boolean): DatabaseSync {
  try {
    const database = new DatabaseSync(file, { timeout: lockedMs, readOnly });
    if (!readOnly) {
      database.exec(
        `PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${ddl}`,
      );
    }
    return database;
  } catch (error) {
    throw new PkiError('record-unavailable', `${file} cannot be opened`, { cause: error });
  }
}

/** The writer's side; one object, in one process. */
export class EntryStore {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #batch: number;
  /** undefined after a transaction that failed: what it keeps in memory may be ahead of the file. */
  #phones: PhoneStore | undefined;

  constructor(file: string) {
    if (!existsSync(dirname(file))) mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    this.#database = openDatabase(file, false);
    this.#batch = Number(this.#prepared('SELECT max(batch) AS batch FROM changed').get()?.batch ?? 0);
  }

  /**
   * How far the feed has been followed; undefined before anything was received, and where an earlier version followed it, which knew
   * no phones: then all of it is received once more.
   */
  get cursor(): FeedCursor | undefined {
    const row = this.#prepared("SELECT value FROM meta WHERE name = 'cursor of 3'").get();
    return row && (JSON.parse(String(row.value)) as FeedCursor);
  }

  /** Shards whose published CRL may no longer be right, from an earlier run too. */
  get changed(): number[] {
    return this.#prepared('SELECT shard FROM changed')
      .all()
      .map(({ shard }) => Number(shard));
  }

  get authorities(): { authority: string; certificate: Bytes }[] {
    const rows = this.#prepared('SELECT authority, certificate FROM authority').all();
    return rows as unknown as { authority: string; certificate: Bytes }[];
  }

  /** The register of verifiers, as far as it has been received. */
  get verifiers(): VerifierFacts[] {
    const rows = this.#prepared('SELECT facts FROM verifier').all();
    return rows.map(({ facts }) => JSON.parse(String(facts)) as VerifierFacts);
  }

  /** Shards that have been defined. */
  get shards(): Shard[] {
    const rows = this.#prepared('SELECT * FROM shard WHERE authority IS NOT NULL').all();
    return rows as unknown as Shard[];
  }

  /** Epochs under which an authority's certificates for phones were issued. */
  epochsOf(authority: string): number[] {
    return this.#phoneStore.epochsOf(authority);
  }

  /**
   * Learns all of a batch, or nothing. Returns the shards that it changed, and those that it defined. Throws
   * `record-unavailable`.
   */
  learn({ authorities, shards, changes, verifiers, cursor, ...of }: FeedUpdate): {
    changed: Set<number>;
    defined: Shard[];
  } {
    return this.#transaction(() => {
      const changed = new Set<number>();
      for (const { authority, certificate } of authorities) {
        this.#prepared('INSERT OR REPLACE INTO authority VALUES (?, ?)').run(authority, certificate);
      }
      for (const { verifierId, version, ...facts } of verifiers) {
        // The highest version is the right one, in whatever order they come.
        this.#prepared(
          `INSERT INTO verifier VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version, facts = excluded.facts
           WHERE excluded.version >= verifier.version`,
        ).run(verifierId, version, JSON.stringify({ ...facts, verifierId, version }));
      }
      const defined = shards.map((shard) => ({ ...shard, id: this.#define(shard) }));
      for (const { id } of defined) changed.add(id);
      for (const event of of.restricted) for (const id of this.#phoneStore.learn(event)) changed.add(id);
      for (const [shard, all] of Map.groupBy(of.phones, (phone) => phone.shard)) {
        const id = this.#idOf(shard);
        if (this.#phoneStore.remember(id, all, of.knownMs)) changed.add(id);
      }
      for (const [shard, all] of Map.groupBy(changes, (change) => change.shard)) {
        const id = this.#idOf(shard);
        if (this.#remember(id, all)) changed.add(id);
      }
      this.#batch += 1;
      for (const id of changed) {
        this.#prepared('INSERT OR REPLACE INTO changed VALUES (?, ?)').run(id, this.#batch);
      }
      this.#prepared("INSERT OR REPLACE INTO meta VALUES ('cursor of 3', ?)").run(JSON.stringify(cursor));
      return { changed, defined };
    });
  }

  /** What was read at `batch` of a shard is published. */
  published(shard: number, batch: number): void {
    this.#transaction(() =>
      this.#prepared('DELETE FROM changed WHERE shard = ? AND batch <= ?').run(shard, batch),
    );
  }

  /**
   * Certificates that have ended and were shown to have been revoked: listed no longer. Some that have been for
   * long, and ended before `longAgoMs`, are forgotten with that.
   */
  end(shard: number, ended: readonly StoredEntry[], longAgoMs: number): void {
    this.#transaction(() => {
      for (const [bucket, all] of Map.groupBy(ended, ({ position }) => bucketOf(position))) {
        const id = bucketId(shard, bucket);
        const items = this.#bucket(id).filter(
          (item) => item.state !== 'ended' || item.notAfterMs >= longAgoMs,
        );
        const byName = new Map(items.map((item) => [nameOf(item), item]));
        for (const item of all) {
          const { version } = byName.get(nameOf(item)) ?? item;
          byName.set(nameOf(item), { ...item, version, state: 'ended' });
        }
        this.#write(id, byName.values());
        this.#phoneStore.end(id, new Set(all.map(nameOf)));
      }
    });
  }

  close(): void {
    this.#database.close();
  }

  #idOf(shard: string): number {
    const known = this.#prepared('SELECT id FROM shard WHERE shard = ?').get(shard);
    if (known) return Number(known.id);
    // Events may come in any order: what it is called may still have to arrive.
    return Number(this.#prepared('INSERT INTO shard (shard) VALUES (?)').run(shard).lastInsertRowid);
  }

  /** A shard keeps the name that it was first received under. */
  #define({ shard, authority, distributionPointName, path }: Omit<Shard, 'id'>): number {
    const id = this.#idOf(shard);
    this.#prepared(
      'UPDATE shard SET authority = ?, distributionPointName = ?, path = ? WHERE id = ? AND authority IS NULL',
    ).run(authority, distributionPointName, path, id);
    return id;
  }

  /** Whether anything came of it. */
  #remember(shard: number, changes: readonly StoredEntry[]): boolean {
    let isChanged = false;
    for (const [bucket, all] of Map.groupBy(changes, ({ position }) => bucketOf(position))) {
      const id = bucketId(shard, bucket);
      const items = new Map(this.#bucket(id).map((item) => [nameOf(item), item]));
      const size = items.size;
      const news = all.filter((change) => {
        const next = successor(items.get(nameOf(change)), change);
        if (next) items.set(nameOf(change), next);
        return next !== undefined;
      });
      if (news.length === 0 && items.size === size) continue;
      this.#write(id, items.values());
      isChanged = true;
    }
    return isChanged;
  }

  #bucket(id: number): StoredEntry[] {
    const row = this.#prepared('SELECT octets FROM bucket WHERE id = ?').get(id);
    return row ? decodeBucket(row.octets as Bytes) : [];
  }

  #write(id: number, items: Iterable<StoredEntry>): void {
    this.#prepared('INSERT OR REPLACE INTO bucket VALUES (?, ?)').run(id, encodeBucket(items));
  }

  get #phoneStore(): PhoneStore {
    this.#phones ??= new PhoneStore(this.#database, (sql) => this.#prepared(sql));
    return this.#phones;
  }

  #transaction<R>(body: () => R): R {
    try {
      return transaction(this.#database, body);
    } catch (error) {
      this.#phones = undefined;
      throw new PkiError('record-unavailable', 'the publisher’s record cannot be written', { cause: error });
    }
  }

  #prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

/**
 * What is remembered after a change: the highest version; and, whatever a feed may say, revoked stays revoked. A record that
 * was restored restarts its versions: a revocation is applied whatever its version. undefined if nothing changed.
 */
function successor(before: StoredEntry | undefined, change: StoredEntry): StoredEntry | undefined {
  if (!before) return change;
  const isFinal = before.state === 'revoked' || before.state === 'ended';
  if (isFinal && change.state !== 'revoked') return undefined;
  if (change.version <= before.version && (isFinal || change.state !== 'revoked')) return undefined;
  const version = Math.max(before.version, change.version);
  return { ...change, version, entry: change.state === 'released' ? before.entry : change.entry };
}

/** A shard as of one moment. */
export interface ShardContent {
  readonly buckets: readonly Bytes[];
  /** The last batch that is in it. */
  readonly batch: number;
  readonly cursor: FeedCursor;
}

/** The readers' side, for other threads. Each read is of one moment. */
export class EntryReader {
  readonly #database: DatabaseSync;
  readonly #buckets: StatementSync;
  readonly #phones: StatementSync;
  readonly #restricted: RestrictedEntries;

  constructor(file: string) {
    this.#database = openDatabase(file, true);
    this.#buckets = this.#database.prepare('SELECT id, octets FROM bucket WHERE id >= ? AND id < ?');
    this.#phones = this.#database.prepare('SELECT id, octets FROM phones WHERE id >= ? AND id < ?');
    this.#restricted = new RestrictedEntries(this.#database);
  }

  /** `keys`: of the authority's epochs, as far as they are known; they are needed where phones are restricted. */
  read(shard: number, keys: readonly EpochKey[], nowMs: number): ShardContent {
    this.#database.exec('BEGIN');
    try {
      this.#restricted.begin(nowMs);
      const buckets = this.#read(shard, keys);
      const batch = this.#database.prepare('SELECT max(batch) AS batch FROM changed').get()?.batch;
      const row = this.#database.prepare("SELECT value FROM meta WHERE name = 'cursor of 3'").get();
      return { buckets, batch: Number(batch ?? 0), cursor: JSON.parse(String(row?.value)) as FeedCursor };
    } finally {
      this.#database.exec('COMMIT');
    }
  }

  /** The shard's buckets, in their order. */
  #read(shard: number, keys: readonly EpochKey[]): Bytes[] {
    const range = [bucketId(shard, 0), bucketId(shard + 1, 0)] as const;
    const byId = (rows: ReturnType<StatementSync['all']>): Map<number, Bytes> =>
      new Map(rows.map(({ id, octets }) => [Number(id), octets as Bytes]));
    const [buckets, phones] = [byId(this.#buckets.all(...range)), byId(this.#phones.all(...range))];
    const ids = [...new Set([...buckets.keys(), ...phones.keys()])].sort((a, b) => a - b);
    return ids.flatMap((id) => this.#restricted.merged(buckets.get(id), phones.get(id), keys) ?? []);
  }

  close(): void {
    this.#database.close();
  }
}
