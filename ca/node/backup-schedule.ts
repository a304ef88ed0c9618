import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import type { Warning } from '../../core/node/warnings.ts';
import { forgetBackup, recordBackup } from '../../store/rules/console-acts.ts';
import {
  backupName,
  type KeptBackup,
  keptBackups,
  madeMsOf,
  outlived,
  pastOf,
  removeBackup,
} from './kept-backups.ts';
import { type Node, nodeActor } from './node.ts';
import { backupFolder } from './scheduled-backup.ts';

/** How often it is looked up whether a backup is due, or asked for. */
const reviewMs = 1000;
/** When it is tried again to make one that could not be. */
const retryMs = 600_000;
/** Of the process that makes it: whatever else there is to do comes first. */
const niceness = 10;
/** Characters of what it says that are kept. */
const saidMax = 4096;

const entry = new URL('./backup-process.ts', import.meta.url).pathname;

type Parts = Pick<Node, 'config' | 'layout' | 'clock' | 'database'>;

/**
 * Has backups made when they are due, each by a process of its own, and removes those that need not be kept. What time it is the service
 * says, whose clock is watched: none is made or removed while it cannot be relied on.
 */
export class BackupSchedule {
  readonly #node: Parts;
  readonly #folder: string | undefined;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  readonly #stopping = new AbortController();
  /** As the folder was read last; undefined before. */
  #kept: readonly KeptBackup[] | undefined;
  #running: Promise<void> | undefined;
  #triedMs = Number.NEGATIVE_INFINITY;
  #restMs = 0;
  #fault: string | undefined;

  constructor(node: Parts, logger: Logger) {
    this.#node = node;
    this.#folder = backupFolder(node.config, node.layout);
    this.#logger = logger;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#running ??= this.#review()
        .catch((error: Error) => this.#alarm(error.message))
        .finally(() => {
          this.#running = undefined;
        });
    }, reviewMs).unref();
  }

  /** One that is being made is ended: what it has written is no backup, and is removed by the next. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#running;
  }

  /** When the oldest was made that may be restored; zero while there is none, and infinity where none are made. */
  get oldestMs(): number {
    return this.#folder === undefined ? Number.POSITIVE_INFINITY : (this.#kept?.[0]?.madeMs ?? 0);
  }

  /** When the newest was made; null where there is none. */
  get newestMs(): number | null {
    return pastOf(this.#kept ?? [], this.#node.clock.wallMs()).at(-1)?.madeMs ?? null;
  }

  /** Where backups are configured and the last is older than two intervals, or none could be made. Reads no disk. */
  warnings(): Warning[] {
    if (this.#folder === undefined) return [];
    const nowMs = this.#node.clock.wallMs();
    const last = pastOf(this.#kept ?? [], nowMs).at(-1);
    const isOld = !last || nowMs - last.madeMs >= 2 * durationMs(this.#node.config.backups.every);
    if (!isOld || (!last && this.#fault === undefined)) return [];
    const about = last
      ? `the last backup in ${this.#folder} is ${last.name}`
      : `there is no backup in ${this.#folder}`;
    const why = this.#fault === undefined ? '' : `: ${this.#fault}`;
    return [
      { kind: 'backup-old', about: `${about}${why}`, atMs: null, act: 'see in the log why none is made' },
    ];
  }

  async #review(): Promise<void> {
    const { clock, layout } = this.#node;
    if (this.#folder === undefined || this.#stopping.signal.aborted) return;
    const isAsked = existsSync(layout.backupRequest);
    if (!isAsked && clock.monotonicMs() - this.#triedMs < this.#restMs) return;
    try {
      const dueInMs = await this.#dueIn(this.#folder);
      // Not before then, whatever the clock says meanwhile.
      this.#triedMs = clock.monotonicMs();
      this.#restMs = Math.min(Math.max(dueInMs, reviewMs), retryMs);
      if (!isAsked && dueInMs > 0) return;
      if (clock.whyUnreliable?.() === undefined) await this.#make(this.#folder);
      else this.#alarm('the clock cannot be relied on');
    } finally {
      if (isAsked) rmSync(layout.backupRequest, { force: true });
    }
  }

  /** How long until one is due, milliseconds; reads what there is. */
  async #dueIn(folder: string): Promise<number> {
    this.#kept = await keptBackups(folder);
    const nowMs = this.#node.clock.wallMs();
    const last = pastOf(this.#kept, nowMs).at(-1);
    return last ? last.madeMs + durationMs(this.#node.config.backups.every) - nowMs : 0;
  }

  async #make(folder: string): Promise<void> {
    const { database, config, clock } = this.#node;
    const [actor, atMs, startMs] = [nodeActor(config), Math.floor(clock.wallMs()), clock.monotonicMs()];
    const file = join(folder, backupName(atMs));
    // First, so that the backup itself knows of it.
    await recordBackup(database, actor, { file, atMs });
    const { fault, said } = await this.#process(atMs);
    if (this.#stopping.signal.aborted || fault !== undefined) {
      // Ended from outside it left what it had copied, in the clear.
      if (this.#stopping.signal.aborted)
        rmSync(this.#node.layout.backupWork, { recursive: true, force: true });
      await forgetBackup(database, actor, { madeMs: atMs, atMs });
      if (fault !== undefined && !this.#stopping.signal.aborted) this.#alarm(fault);
      return;
    }
    this.#fault = undefined;
    // Until it is due again, whatever the clock says by then.
    this.#restMs = Math.min(durationMs(config.backups.every), retryMs);
    for (const name of said.split('\n')) {
      const madeMs = madeMsOf(name);
      if (madeMs !== undefined) await forgetBackup(database, actor, { madeMs, atMs });
    }
    await this.#removeOutlived(folder, atMs);
    const seconds = Math.round((clock.monotonicMs() - startMs) / 1000);
    this.#logger.info({ seconds, backup: file }, 'a backup was made, verified and encrypted');
  }

  async #removeOutlived(folder: string, atMs: number): Promise<void> {
    const { database, config } = this.#node;
    const { keepNumber, keepAge } = config.backups;
    const keep = { nowMs: atMs, keepAgeMs: durationMs(keepAge), keepNumber };
    for (const { name, madeMs } of outlived(await keptBackups(folder), keep)) {
      await removeBackup(folder, name);
      await forgetBackup(database, nodeActor(config), { madeMs, atMs });
    }
    this.#kept = await keptBackups(folder);
  }

  /** What it says, or why it failed. */
  #process(atMs: number): Promise<{ readonly fault: string | undefined; readonly said: string }> {
    return new Promise((resolve) => {
      let said = '';
      const child = spawn(process.execPath, [entry, this.#node.layout.folder, String(atMs)], {
        stdio: ['ignore', 'pipe', 'pipe'],
        signal: this.#stopping.signal,
      });
      // One that was begun closes, too, also where it is ended.
      child.once('error', (error) => {
        if (child.pid === undefined) resolve({ fault: error.message, said });
      });
      child.once('close', (code) =>
        resolve({ fault: code === 0 ? undefined : said.trim() || `the process ended with ${code}`, said }),
      );
      for (const stream of [child.stdout, child.stderr])
        stream?.on('data', (chunk) => {
          said = `${said}${String(chunk)}`.slice(-saidMax);
        });
      try {
        if (child.pid !== undefined) setPriority(child.pid, niceness);
      } catch (error) {
        // It may have ended already.
        this.#logger.debug(
          { reason: (error as Error).message },
          'the process of a backup has its usual priority',
        );
      }
    });
  }

  #alarm(reason: string): void {
    this.#triedMs = this.#node.clock.monotonicMs();
    this.#restMs = retryMs;
    this.#fault = reason;
    const act =
      'mend what the reason says; it is tried again every ten minutes, and at once by warifu backup --scheduled';
    this.#logger.error({ reason, act }, 'ALARM: no backup could be made');
  }
}
