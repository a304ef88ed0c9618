import type { Clock } from './clock.ts';

/**
 * Has callers share calls, however many callers there are: one that comes while a call is under way, or less than `freshMs` after one ended,
 * is given its outcome. So an outcome is at most `freshMs` older than the answer, and a caller waits for one call at most.
 */
export function sharedCall<T>(
  act: () => Promise<T>,
  { freshMs, clock }: { readonly freshMs: number; readonly clock: Clock },
): () => Promise<T> {
  let outcome: Promise<T> | undefined;
  let staleMs = Number.POSITIVE_INFINITY;
  return () => {
    if (outcome && clock.monotonicMs() < staleMs) return outcome;
    const call = act();
    outcome = call;
    staleMs = Number.POSITIVE_INFINITY;
    const ended = (): void => {
      staleMs = clock.monotonicMs() + freshMs;
    };
    call.then(ended, ended);
    return call;
  };
}
