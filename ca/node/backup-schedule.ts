import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { setPriority } from 'node:os';
import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import type { Warning } from '../../core/node/warnings.ts';
import { keptBackups } from './kept-backups.ts';
import type { Node } from './node.ts';
import { backupFolder } from './scheduled-backup.ts';

/** How often it is looked up whether a backup is due. */
const reviewMs = 1000;
/** When it is tried again to make one that could not be. */
const retryMs = 600_000;
/** Of the process that makes it: whatever else there is to do comes first. */
const niceness = 10;
/** Octets of what it says that are kept. */
const saidMax = 4096;

const entry = new URL('./backup-process.ts', import.meta.url).pathname;

/** Has backups made when they are due, each by a process of its own, and warns where the last is old. */
export class BackupSchedule {
  readonly #node: Pick<Node, 'config' | 'layout' | 'clock'>;
  readonly #logger: Logger;
  readonly #timer: NodeJS.Timeout;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #failedMs = Number.NEGATIVE_INFINITY;
  #fault: string | undefined;

  constructor(node: Pick<Node, 'config' | 'layout' | 'clock'>, logger: Logger) {
    this.#node = node;
    this.#logger = logger;
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
    // What it had copied is not encrypted yet.
    rmSync(this.#node.layout.backupWork, { recursive: true, force: true });
  }

  /** In words, where backups are configured and the last is older than two intervals. */
  warnings(): Warning[] {
    const folder = backupFolder(this.#node.config, this.#node.layout);
    if (folder === undefined) return [];
    const last = keptBackups(folder).at(-1);
    const everyMs = durationMs(this.#node.config.backups.every);
    if (last ? this.#node.clock.wallMs() - last.madeMs < 2 * everyMs : this.#fault === undefined) return [];
    const about = last ? `the last backup in ${folder} is ${last.name}` : `there is no backup in ${folder}`;
    const why = this.#fault === undefined ? '' : `: ${this.#fault}`;
    return [
      { kind: 'backup-old', about: `${about}${why}`, atMs: null, act: 'see in the log why none is made' },
    ];
  }

  async #review(): Promise<void> {
    const { config, layout, clock } = this.#node;
    const folder = backupFolder(config, layout);
    if (folder === undefined || this.#stopping.signal.aborted) return;
    const nowMs = clock.monotonicMs();
    const last = keptBackups(folder).at(-1);
    // One dated in the future is of a clock that was wrong: it keeps no other from being made.
    const ageMs = last ? Math.abs(clock.wallMs() - last.madeMs) : Number.POSITIVE_INFINITY;
    if (ageMs < durationMs(config.backups.every) || nowMs - this.#failedMs < retryMs) return;
    await this.#make();
  }

  async #make(): Promise<void> {
    const { layout, clock } = this.#node;
    const startMs = clock.monotonicMs();
    const child = spawn(process.execPath, [entry, layout.folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: this.#stopping.signal,
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        said = `${said}${String(chunk)}`.slice(-saidMax);
      });
    if (child.pid !== undefined) setPriority(child.pid, niceness);
    const [code] = await once(child, 'close').catch((error: Error) => [error.message]);
    if (this.#stopping.signal.aborted) return;
    if (code !== 0) return this.#alarm(said.trim() || `the process ended with ${code}`);
    this.#fault = undefined;
    const seconds = Math.round((clock.monotonicMs() - startMs) / 1000);
    this.#logger.info({ seconds, backup: said.trim() }, 'a backup was made, verified and encrypted');
  }

  #alarm(reason: string): void {
    this.#failedMs = this.#node.clock.monotonicMs();
    this.#fault = reason;
    const act =
      'mend what the reason says; it is tried again every ten minutes; warifu backup --scheduled tries it now';
    this.#logger.error({ reason, act }, 'ALARM: no backup could be made');
  }
}
