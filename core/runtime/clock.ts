import { readFileSync } from 'node:fs';
import { PkiError } from './errors.ts';

/** Time as seen from outside (may step) and from inside (never steps back), apart, injected everywhere. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  wallMs(): number;
  /** Milliseconds since an arbitrary start, the same for all threads; only differences mean anything. */
  monotonicMs(): number;
  /** Milliseconds since the machine started, its sleep included; absent or undefined where nothing says so. */
  upMs?(): number | undefined;
  /** Why nothing may be issued by it now; absent, or undefined, where it may. */
  whyUnreliable?(): string | undefined;
  /** Where the clocks are moved, and by how much: shared memory, so that threads agree. See `shiftedClock`. */
  readonly shift?: SharedArrayBuffer;
}

/** The one place that reads the machine's clocks. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => Number(process.hrtime.bigint()) / 1e6,
  upMs: () => {
    try {
      return Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;
    } catch {
      // Only Linux has it.
      return undefined;
    }
  },
};

/**
 * The machine's clock, moved by the milliseconds that stand in `shift`, two doubles: the first rehearses a day to come, and by
 * the second a `SteadyClock` differs from it.
 */
export function shiftedClock(shift: SharedArrayBuffer): Clock {
  const ms = new Float64Array(shift);
  return {
    shift,
    wallMs: () => systemClock.wallMs() + (ms[0] ?? 0) + (ms[1] ?? 0),
    monotonicMs: () => systemClock.monotonicMs(),
  };
}

/** `clock-unreliable` where nothing may be issued by a clock now: validity and order would both be wrong. */
export function refuseUnreliable(clock: Clock): void {
  const why = clock.whyUnreliable?.();
  if (why !== undefined) throw new PkiError('clock-unreliable', why);
}
