/**
 * Has callers share calls: what is called while one is under way begins once that has ended, one for all that wait. So a call begins after
 * it was asked for, and a thousand that are asked for together are two.
 */
export function coalesced<T>(act: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<unknown> = Promise.resolve();
  let waiting: Promise<T> | undefined;
  return () => {
    waiting ??= underWay.then(() => {
      waiting = undefined;
      const call = act();
      underWay = call.catch(() => undefined);
      return call;
    });
    return waiting;
  };
}
