import { setTimeout } from 'node:timers/promises';
import type { Clock } from './clock.ts';

/** Work that can wait leaves four fifths of the time to others. */
const restPerWork = 4;

/** Repeats a step until it says that nothing is left, or `signal` aborts, and rests after each. Rejects with what the step throws. */
export async function workOff(
  step: () => Promise<boolean>,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  while (!signal.aborted) {
    const beganMs = clock.monotonicMs();
    if (!(await step())) return;
    const tookMs = clock.monotonicMs() - beganMs;
    await setTimeout(tookMs * restPerWork, undefined, { signal }).catch(() => undefined);
  }
}
