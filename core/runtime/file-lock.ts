import { readFileSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { PkiError } from './errors.ts';

/**
 * An exclusive lock on a file, held by the kernel for this process and released with it, however it ends: there is no pid
 * to go stale. It is SQLite's own lock (fcntl) on a database with nothing in it, so it holds between all processes of a
 * host, containers that share the folder included, and on a network file system only as far as that has locks.
 *
 * The file must not be opened but through here: closing any other descriptor of it would release the lock.
 */
export class FileLock {
  /** Locks that are held: a connection that nothing refers to is closed when garbage is collected. */
  static readonly #held = new Set<FileLock>();
  readonly #database: DatabaseSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Waits up to `waitMs`. Throws `in-use`, naming the holder by what it said of itself. */
  static acquire(file: string, options: { readonly what: string; readonly waitMs?: number }): FileLock {
    const database = new DatabaseSync(file, { timeout: options.waitMs ?? 0 });
    try {
      database.exec('PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    } catch (error) {
      database.close();
      if (!/locked|busy/i.test(String((error as Error).message))) throw error;
      throw new PkiError('in-use', `${file} is held by ${holderOf(file)}`, { cause: error });
    }
    writeFileSync(`${file}.holder`, `${options.what}, process ${process.pid}\n`, { mode: 0o600 });
    const lock = new FileLock(database);
    FileLock.#held.add(lock);
    return lock;
  }

  release(): void {
    FileLock.#held.delete(this);
    this.#database.close();
  }
}

/** What the holder wrote next to the lock; it is for people, and decides nothing. */
function holderOf(file: string): string {
  try {
    return readFileSync(`${file}.holder`, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return 'another process';
  }
}
