/** Time as seen from outside (may step) and from inside (never steps back), apart, injected everywhere. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  wallMs(): number;
  /** Milliseconds since an arbitrary start; only differences mean anything. */
  monotonicMs(): number;
}

/** The one place that reads the machine's clocks. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
