import { appendFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';

/** Entries that may wait to be written: beyond it they are counted and lost, for an answer waits for no log. */
const waitingMax = 65_536;
const flushMs = 1000;

export interface AskedEntry {
  readonly verifier: string;
  readonly authority: string;
  readonly serial: Bytes;
  readonly status: string;
}

/** Removes files of days before that time. A day's files are kept until all of it is older. */
export async function forgetQueries(folder: string, beforeMs: number): Promise<void> {
  const day = new Date(beforeMs).toISOString().slice(0, 10);
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const name of names)
    if (/^\d{4}-\d{2}-\d{2}\.\d+\.ndjson$/.test(name) && name.slice(0, 10) < day)
      await rm(join(folder, name), { force: true });
}

/**
 * Which verifier asked about which certificate, when, and what was said: for notices to holders. A file a day and thread,
 * NDJSON, written in batches behind the answers. What is lost is said in the log itself.
 */
export class QueryLog {
  readonly #folder: string;
  readonly #thread: number;
  readonly #clock: Clock;
  readonly #timer: NodeJS.Timeout;
  #lines: string[] = [];
  #lost = 0;
  #writing: Promise<void> | undefined;

  constructor(options: { readonly folder: string; readonly thread: number; readonly clock: Clock }) {
    this.#folder = options.folder;
    this.#thread = options.thread;
    this.#clock = options.clock;
    this.#timer = setInterval(() => void this.#flush(), flushMs).unref();
  }

  add({ verifier, authority, serial, status }: AskedEntry): void {
    if (this.#lines.length >= waitingMax) {
      this.#lost += 1;
      return;
    }
    const atMs = this.#clock.wallMs();
    // Every value is of a form that JSON needs no escape for.
    this.#lines.push(
      `{"atMs":${Math.floor(atMs)},"verifier":"${verifier}","authority":"${authority}","serialNumber":"${hex(serial)}","status":"${status}"}\n`,
    );
  }

  /** Writes what is left. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#flush();
    await this.#flush();
  }

  #flush(): Promise<void> {
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #write(): Promise<void> {
    const [lines, lost, nowMs] = [this.#lines, this.#lost, this.#clock.wallMs()];
    if (lines.length === 0 && lost === 0) return;
    this.#lines = [];
    this.#lost = 0;
    if (lost > 0) lines.push(`${JSON.stringify({ atMs: Math.floor(nowMs), lost })}\n`);
    const day = new Date(nowMs).toISOString().slice(0, 10);
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await appendFile(join(this.#folder, `${day}.${this.#thread}.ndjson`), lines.join(''), { mode: 0o600 });
    } catch {
      // A full disk must not stop answers: they are counted, and the next batch that can be written says so.
      this.#lost += lost + lines.length;
    }
  }
}
