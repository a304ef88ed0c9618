/** Time as seen from outside (may step) and from inside (never steps back), apart, injected everywhere. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  wallMs(): number;
  /** Milliseconds since an arbitrary start, the same for all threads; only differences mean anything. */
  monotonicMs(): number;
  /** Where the wall clock is moved on purpose, and by how much: shared memory, so that threads agree. */
  readonly shift?: SharedArrayBuffer;
}

/** The one place that reads the machine's clocks. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => Number(process.hrtime.bigint()) / 1e6,
};

/** The machine's clock, moved by the milliseconds that stand in `shift`: for rehearsing a day to come. */
export function shiftedClock(shift: SharedArrayBuffer): Clock {
  const ms = new Float64Array(shift);
  return {
    shift,
    wallMs: () => systemClock.wallMs() + (ms[0] ?? 0),
    monotonicMs: () => systemClock.monotonicMs(),
  };
}
