// Apart from what reads configurations: threads that need nothing else start faster without its libraries.

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a duration such as `10min`, or of `0`. */
export function durationMs(text: string): number {
  if (text === '0') return 0;
  const match = /^(\d+)(ms|s|min|h|d)$/.exec(text);
  return Number(match?.[1]) * (units[match?.[2] ?? ''] ?? Number.NaN);
}
