import type { Logger } from 'pino';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { WorkerClient } from '../../core/workers/worker.ts';
import type { WatchPass, WatchStart } from './watch-thread.ts';

/** Delay before the first pass, to keep the start fast. */
const firstMs = 2000;
/** Between two passes, at least. */
const restMsMin = 5000;
/** And so many times what the one before took, so that verifying takes a twentieth of a core however large the record is. */
const restShare = 19;

/**
 * Verifies the whole record, every entry and row, again and again while the service runs: what was altered outside the service is an
 * alarm within a minute if a pass takes less than three seconds, and within twenty times its duration otherwise. While a pass runs
 * the write-ahead log cannot be brought into the file.
 */
export class AuditWatch {
  readonly #start: Omit<WatchStart, 'stop'>;
  readonly #logger: Logger;
  readonly #onChange: () => void;
  readonly #stop = new SharedArrayBuffer(4);
  #timer: NodeJS.Timeout;
  #thread: WorkerClient<{ readonly type: 'pass' }, WatchPass | null> | undefined;
  #passing: Promise<void> = Promise.resolve();
  #finding: string | undefined;
  #isFailing = false;

  /** `key` is that of `AuditKey`. `onChange` is called when `finding` has changed. */
  constructor(options: {
    readonly file: string;
    readonly key: Bytes;
    readonly logger: Logger;
    readonly onChange: () => void;
  }) {
    this.#start = { file: options.file, key: options.key };
    this.#logger = options.logger;
    this.#onChange = options.onChange;
    this.#timer = setTimeout(() => this.#begin(), firstMs).unref();
  }

  /** What is wrong with the record, in words; undefined where nothing was found. */
  get finding(): string | undefined {
    return this.#finding;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    Atomics.store(new Int32Array(this.#stop), 0, 1);
    await this.#passing;
    // One that cannot open the record has said so.
    await this.#thread?.close().catch(() => undefined);
  }

  #begin(): void {
    this.#passing = this.#pass().catch((error: Error) => {
      if (Atomics.load(new Int32Array(this.#stop), 0) === 1) return;
      if (!this.#isFailing)
        this.#logger.error(
          { reason: error.message, act: 'see why; start again' },
          'ALARM: the record cannot be verified',
        );
      this.#isFailing = true;
      void this.#thread?.close().catch(() => undefined);
      this.#thread = undefined;
      this.#again(restMsMin);
    });
  }

  async #pass(): Promise<void> {
    const script = new URL('./watch-thread.ts', import.meta.url);
    this.#thread ??= new WorkerClient({ script, start: { ...this.#start, stop: this.#stop } });
    const failed = this.#thread.ended.then(() => {
      throw new Error('the thread that verifies has ended');
    });
    failed.catch(() => undefined);
    const result = await Promise.race([this.#thread.request({ type: 'pass' }), failed]);
    if (!result) throw new Error('the thread that verifies has ended');
    this.#isFailing = false;
    this.#report(result);
    this.#again(Math.max(restMsMin, restShare * result.tookMs));
  }

  #again(ms: number): void {
    this.#timer = setTimeout(() => this.#begin(), ms).unref();
  }

  #report({ finding, rows, tookMs }: WatchPass): void {
    this.#logger.debug({ rows, tookMs: Math.round(tookMs) }, 'the record was verified');
    const found = finding ? `${finding.type} ${finding.where}: ${finding.what}` : undefined;
    if (found === this.#finding) return;
    this.#finding = found;
    this.#onChange();
    if (found === undefined) {
      this.#logger.warn('the record is again as it was written');
      return;
    }
    const act = 'stop the service, run warifu audit verify, and restore a backup';
    this.#logger.error({ finding: found, act }, 'ALARM: the record was altered outside the service');
  }
}
