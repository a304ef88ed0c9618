import type { Logger } from 'pino';
import type { Clock } from './clock.ts';

/** Between two lines about the same kind of fault: what a stranger can cause must not fill the disk. */
const everyMs = 1000;

/**
 * Reports faults of ours that ended one request: at most one line a second, with the number of faults since the last.
 */
export function faultLog(
  logger: Pick<Logger, 'error'>,
  clock: Pick<Clock, 'monotonicMs'>,
  message: string,
): (error: unknown) => void {
  let sinceMs = Number.NEGATIVE_INFINITY;
  let suppressed = 0;
  return (error) => {
    const nowMs = clock.monotonicMs();
    if (nowMs - sinceMs < everyMs) {
      suppressed += 1;
      return;
    }
    const { message: reason, stack } = error as Error;
    logger.error({ reason, stack, suppressed }, message);
    sinceMs = nowMs;
    suppressed = 0;
  };
}
