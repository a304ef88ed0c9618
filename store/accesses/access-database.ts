import { chmodSync, existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Access, GroupedAccess, RecordedAccess, SealedQuery } from '../api/access-store.ts';
import { translate } from '../sqlite/sqlite.ts';
import { accessMac, chainStart } from './access-chain.ts';

// Who looked at whom, in a file of its own: a chain that only grows at its end, and loses its oldest part after a time. Next to it what
// relying parties asked, sealed for one holder each.

interface Head {
  readonly sequence: number;
  readonly mac: Bytes;
}

const tables = `
CREATE TABLE IF NOT EXISTS access (sequence INTEGER PRIMARY KEY, atMs INTEGER NOT NULL, holderId TEXT, client TEXT NOT NULL,
  kind TEXT NOT NULL, role TEXT NOT NULL, actsFor TEXT NOT NULL, purpose TEXT, route TEXT NOT NULL, found INTEGER NOT NULL,
  isFirst INTEGER NOT NULL, mac BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS accessByHolder ON access (holderId, sequence) WHERE holderId IS NOT NULL;
CREATE INDEX IF NOT EXISTS accessByClient ON access (client, atMs);
CREATE TABLE IF NOT EXISTS base (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, mac BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS query (entry BLOB PRIMARY KEY, tag BLOB NOT NULL, sealed BLOB NOT NULL, expiresMs INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS queryByTag ON query (tag);
CREATE INDEX IF NOT EXISTS queryByEnd ON query (expiresMs);
`;

/** Accesses that are shown of a holder. */
const shownMax = 5000;
/** Rows that are removed at a time. */
const removedAtATime = 1000;

/** The file, open in one thread. What it is asked throws `record-unavailable` where the disk does not do it. */
export class AccessDatabase {
  readonly #database: DatabaseSync;
  readonly #key: Bytes;
  #head: Head;
  /** How far the chain was verified. */
  #verified: Head;

  constructor(file: string, key: Bytes) {
    this.#key = key;
    const isNew = !existsSync(file);
    this.#database = new DatabaseSync(file, { timeout: 5000 });
    if (isNew) chmodSync(file, 0o600);
    this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON');
    // A look-up waits for what it has recorded: the log is brought into the file often, a little at a time.
    this.#database.exec('PRAGMA wal_autocheckpoint = 100');
    this.#database.exec(tables);
    this.#verified = this.#base();
    const last = this.#database
      .prepare('SELECT sequence, mac FROM access ORDER BY sequence DESC LIMIT 1')
      .get();
    this.#head = last ? (last as unknown as Head) : this.#base();
  }

  #base(): Head {
    const found = this.#database.prepare('SELECT sequence, mac FROM base').get();
    return found ? (found as unknown as Head) : { sequence: 0, mac: chainStart };
  }

  get sequence(): number {
    return this.#head.sequence;
  }

  /** Writes all of them, on disk when it returns, or none. */
  add(accesses: readonly Access[], queries: readonly SealedQuery[]): void {
    const insert = this.#database.prepare('INSERT INTO access VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    const keep = this.#database.prepare('INSERT OR IGNORE INTO query VALUES (?, ?, ?, ?)');
    let head = this.#head;
    this.#transaction(() => {
      for (const access of accesses) {
        const recorded = { ...access, sequence: head.sequence + 1 };
        head = { sequence: recorded.sequence, mac: accessMac(this.#key, head.mac, recorded) };
        const { atMs, holderId, client, kind, role, actsFor, purpose, route, found, isFirst } = recorded;
        const columns = [atMs, holderId, client, kind, role, JSON.stringify(actsFor), purpose, route];
        insert.run(recorded.sequence, ...columns, found ? 1 : 0, isFirst ? 1 : 0, head.mac);
      }
      for (const { entry, tag, sealed, expiresMs } of queries) keep.run(entry, tag, sealed, expiresMs);
    });
    this.#head = head;
  }

  /** Accesses to a holder by day, the latest first. */
  of(holderId: string): GroupedAccess[] {
    const found = this.#database
      .prepare(
        // Of one client, purpose, route and day together: none hides another by asking often. SQLite takes the row of the maximum.
        `SELECT *, max(sequence) AS latest, count(*) AS times FROM access WHERE holderId = ? AND found = 1
         GROUP BY client, purpose, route, (atMs + 32400000) / 86400000 ORDER BY latest DESC LIMIT ?`,
      )
      .all(holderId, shownMax);
    return found.map(({ latest: _, times, ...row }) => ({ ...accessOf(row).access, times: Number(times) }));
  }

  /** Sealed queries under any of some tags. */
  queries(tags: readonly Bytes[]): Bytes[] {
    const statement = this.#database.prepare(
      'SELECT sealed FROM query WHERE tag = ? ORDER BY expiresMs DESC LIMIT ?',
    );
    return tags.flatMap((tag) => statement.all(tag, shownMax).map(({ sealed }) => sealed as Uint8Array));
  }

  /** Requests of a client since a time. */
  countSince(client: string, sinceMs: number): number {
    const row = this.#database
      .prepare('SELECT count(*) AS count FROM access WHERE client = ? AND atMs >= ? AND isFirst = 1')
      .get(client, sinceMs);
    return Number(row?.count ?? 0);
  }

  /** Removes some of what is older than it is to be kept: the chain begins later then. Whether there may be more. */
  forget(accessesBeforeMs: number, nowMs: number): boolean {
    let isMore = false;
    this.#transaction(() => {
      const last = this.#database
        .prepare(
          'SELECT max(sequence) AS sequence FROM (SELECT sequence, atMs FROM access ORDER BY sequence LIMIT ?) WHERE atMs < ?',
        )
        .get(removedAtATime, accessesBeforeMs);
      if (typeof last?.sequence === 'number') {
        const base = this.#database
          .prepare('SELECT sequence, mac FROM access WHERE sequence = ?')
          .get(last.sequence) as unknown as Head;
        this.#database
          .prepare(
            'INSERT INTO base VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, mac = excluded.mac',
          )
          .run(base.sequence, base.mac);
        const { changes } = this.#database
          .prepare('DELETE FROM access WHERE sequence <= ?')
          .run(base.sequence);
        isMore = changes === removedAtATime;
        if (this.#verified.sequence < base.sequence) this.#verified = base;
      }
      const { changes } = this.#database
        .prepare(
          'DELETE FROM query WHERE rowid IN (SELECT rowid FROM query WHERE expiresMs <= ? ORDER BY expiresMs LIMIT ?)',
        )
        .run(nowMs, removedAtATime);
      isMore ||= changes === removedAtATime;
    });
    return isMore;
  }

  /** Verifies so many rows more of the chain, from its begin again once its end was reached. What is wrong, in words; whether there are more. */
  verify(rows: number): { readonly finding?: string; readonly isMore: boolean } {
    const base = this.#base();
    if (this.#verified.sequence < base.sequence || this.#verified.sequence >= this.#head.sequence)
      this.#verified = base;
    const next = this.#database
      .prepare('SELECT * FROM access WHERE sequence > ? ORDER BY sequence LIMIT ?')
      .all(this.#verified.sequence, rows);
    let { sequence, mac } = this.#verified;
    for (const row of next) {
      const { access, mac: recorded } = accessOf(row);
      mac = accessMac(this.#key, mac, access);
      if (access.sequence !== sequence + 1 || !equal(mac, recorded)) {
        this.#verified = base;
        return { finding: `access ${sequence + 1} is not as it was written`, isMore: false };
      }
      ({ sequence } = access);
    }
    this.#verified = { sequence, mac };
    const isMore = sequence < this.#head.sequence;
    if (!isMore || next.length === rows) return { isMore };
    return { finding: `accesses ${sequence + 1} to ${this.#head.sequence} are gone`, isMore: false };
  }

  close(): void {
    this.#database.close();
  }

  #transaction(act: () => void): void {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      act();
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw translate(error);
    }
  }
}

/** Throws `record-unavailable` where a row was altered so that it cannot be read. */
function accessOf(row: Record<string, unknown>): { access: RecordedAccess; mac: Bytes } {
  const { mac, actsFor, found, isFirst, ...others } = row;
  try {
    const parsed = JSON.parse(String(actsFor)) as string[];
    const flags = { found: found === 1, isFirst: isFirst === 1 };
    const access = { ...others, actsFor: parsed, ...flags } as unknown as RecordedAccess;
    return { access, mac: mac as Uint8Array };
  } catch (error) {
    throw new PkiError('record-unavailable', `access ${others.sequence} was altered`, { cause: error });
  }
}
