import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';

/**
 * The last CRL of each distribution point and kind that was signed. It survives the process that signed it; a loss of power may take those of
 * the last moments, and the numbers that the publisher finds in what it has published still rise.
 */
export class CrlNumbers {
  readonly #database: DatabaseSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;

  constructor(file: string) {
    this.#database = new DatabaseSync(file);
    this.#database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS crl (
        point BLOB, kind TEXT, number INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (point, kind)) STRICT`);
    this.#get = this.#database.prepare('SELECT number, digest FROM crl WHERE point = ? AND kind = ?');
    this.#put = this.#database.prepare('INSERT OR REPLACE INTO crl VALUES (?, ?, ?, ?)');
  }

  /** Takes a number, if it is higher than the last, or the last once more for the same octets. Whether it was taken. */
  take(crl: {
    readonly point: Bytes;
    readonly kind: string;
    readonly number: number;
    /** Of what is to be signed. */
    readonly digest: Bytes;
  }): boolean {
    const { point, kind, number, digest } = crl;
    const last = this.#get.get(point, kind);
    if (last && Number(last.number) === number) return equal(last.digest as Bytes, digest);
    if (last && Number(last.number) > number) return false;
    this.#put.run(point, kind, number, digest);
    return true;
  }

  close(): void {
    this.#database.close();
  }
}
