import type { Clock } from './clock.ts';

/** How a long command tells how far it is: `done` of `total`; of undefined where that is not known yet. */
export type Tell = (done: number, total: number | undefined) => void;

interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): boolean;
}

/** Between two bars on a terminal, and between two lines elsewhere. */
const [barMs, lineMs] = [200, 30_000];
const width = 30;

/**
 * A bar on a terminal, and a line now and then in a log. Writes nothing of what takes less than its first interval. `end` leaves the
 * cursor at the begin of a line.
 */
export class Progress {
  readonly #out: Terminal;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #label = '';
  #first = 0;
  #startMs = 0;
  #shownMs = 0;
  #isOpen = false;

  constructor(out: Terminal, clock: Pick<Clock, 'monotonicMs'>) {
    this.#out = out;
    this.#clock = clock;
  }

  /** The function that tells of one part of the work. */
  of(label: string): Tell {
    return (done, total) => this.#tell(label, done, total);
  }

  end(): void {
    if (this.#isOpen) this.#out.write('\n');
    this.#isOpen = false;
  }

  #tell(label: string, done: number, total: number | undefined): void {
    const nowMs = this.#clock.monotonicMs();
    if (label !== this.#label) {
      this.end();
      this.#label = label;
      this.#first = done;
      this.#startMs = nowMs;
      this.#shownMs = nowMs;
    }
    const isTerminal = this.#out.isTTY === true;
    if (nowMs - this.#shownMs < (isTerminal ? barMs : lineMs) && !(this.#isOpen && done === total)) return;
    this.#shownMs = nowMs;
    const perSecond = ((done - this.#first) * 1000) / Math.max(nowMs - this.#startMs, 1);
    const line = `${label} ${progressBar(done, total, perSecond)}`;
    this.#out.write(isTerminal ? `\r${line}\u001b[K` : `${line}\n`);
    this.#isOpen = isTerminal;
  }
}

/** One line: `[###...] 15 of 30, 100 a second, 1 s left`. */
export function progressBar(done: number, total: number | undefined, perSecond: number): string {
  const rate = `${Math.round(perSecond)} a second`;
  if (total === undefined) return `${done}, ${rate}`;
  const filled = total <= 0 ? width : Math.min(width, Math.max(0, Math.floor((done / total) * width)));
  const bar = '#'.repeat(filled).padEnd(width, '.');
  const left = perSecond > 0 ? `, ${Math.ceil(Math.max(0, total - done) / perSecond)} s left` : '';
  return `[${bar}] ${done} of ${total}, ${rate}${left}`;
}
