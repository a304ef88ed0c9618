import type { Logger } from 'pino';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { WorkerClient } from '../../core/workers/worker.ts';
import type { RecordPlace } from './open-reader.ts';
import type { WatchPass, WatchStart } from './watch-thread.ts';

/** Delay before the first pass, to keep the start fast. */
const firstMs = 2000;
/** Between two passes, at least. */
const restMsMin = 5000;
/** And so many times what the one before worked, so that verifying takes a twentieth of a core. */
const restShare = 19;

/**
 * Verifies the whole record, every entry and row, again and again while the service runs, with a twentieth of a core: what was altered
 * outside the service is an alarm within seconds where a pass works half a second or less (some hundred thousand rows), and within some
 * thirty times what it works otherwise. It reads in slices, so that a record of any size is verified, and continues after a restart
 * where it was.
 */
export class AuditWatch {
  readonly #place: () => RecordPlace;
  readonly #start: Omit<WatchStart, 'stop' | 'place'>;
  readonly #logger: Logger;
  readonly #onChange: () => void;
  readonly #stop = new SharedArrayBuffer(4);
  #timer: NodeJS.Timeout;
  #thread: WorkerClient<{ readonly type: 'pass' }, WatchPass | null> | undefined;
  #passing: Promise<void> = Promise.resolve();
  #finding: string | undefined;
  #verifiedMs: number | null = null;
  #isFailing = false;

  /** `key` is that of `AuditKey`; for `passFile` see `PassFile`. `onChange` is called when `finding` has changed. */
  constructor(options: {
    /** Asked for each thread that is begun. */
    readonly place: () => RecordPlace;
    readonly passFile: string;
    readonly key: Bytes;
    readonly logger: Logger;
    readonly onChange: () => void;
  }) {
    this.#place = options.place;
    this.#start = { passFile: options.passFile, key: options.key };
    this.#logger = options.logger;
    this.#onChange = options.onChange;
    this.#timer = setTimeout(() => this.#begin(), firstMs).unref();
  }

  /** What is wrong with the record, in words; undefined where nothing was found. */
  get finding(): string | undefined {
    return this.#finding;
  }

  /** When the whole record was last verified, and found as it was written: wall-clock milliseconds; null before. */
  get verifiedMs(): number | null {
    return this.#verifiedMs;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    const stop = new Int32Array(this.#stop);
    Atomics.store(stop, 0, 1);
    Atomics.notify(stop, 0);
    await this.#passing;
    // One that cannot open the record has said so.
    await this.#thread?.close().catch(() => undefined);
  }

  #begin(): void {
    this.#passing = this.#pass().catch((error: Error) => {
      if (Atomics.load(new Int32Array(this.#stop), 0) === 1) return;
      if (!this.#isFailing)
        this.#logger.error(
          { reason: error.message, act: 'see why; it is tried again' },
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
    this.#thread ??= new WorkerClient({
      script,
      start: { ...this.#start, place: this.#place(), stop: this.#stop },
    });
    const result = await this.#thread.request({ type: 'pass' });
    if (!result) {
      // Rejects with the error that ended it.
      await this.#thread.ended;
      throw new Error('the thread that verifies has ended');
    }
    this.#isFailing = false;
    this.#report(result);
    this.#again(Math.max(restMsMin, restShare * result.workedMs));
  }

  #again(ms: number): void {
    this.#timer = setTimeout(() => this.#begin(), ms).unref();
  }

  #report({ finding, rows, workedMs }: WatchPass): void {
    this.#logger.debug({ rows, workedMs: Math.round(workedMs) }, 'the record was verified');
    const found = finding ? `${finding.type} ${finding.where}: ${finding.what}` : undefined;
    if (found === undefined) this.#verifiedMs = systemClock.wallMs();
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
