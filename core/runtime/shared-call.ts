/**
 * Has callers that come while a call is under way share the next one: each is given the outcome of a call that began after it came, and there
 * are never more than one under way and one waiting, however many callers there are.
 */
export function sharedCall<T>(act: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  const start = (): Promise<T> => {
    running = act().finally(() => {
      running = undefined;
    });
    return running;
  };
  return () => {
    if (!running) return start();
    next ??= running
      .catch(() => undefined)
      .then(() => {
        next = undefined;
        return start();
      });
    return next;
  };
}
