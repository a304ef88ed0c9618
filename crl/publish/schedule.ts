import type { Clock } from '../../core/runtime/clock.ts';
import type { PublishedCrl, PublishedShard } from '../folder/published.ts';
import type { Trigger } from '../issue/build-order.ts';

export interface ScheduleOptions {
  readonly clock: Clock;
  /** Age at which a complete CRL is reissued, changed or not. */
  readonly refreshMs: number;
  /** Age at which a delta is; null where there are none. */
  readonly deltaEveryMs: number | null;
}

/** By how much clocks may differ. */
const aheadMsMax = 60_000;

/**
 * When which CRL is due. The ages are spread, differently for each shard and each time, over the last quarter before the one that is
 * configured: so that CRLs that were issued together are not all signed together for ever.
 */
export class Schedule {
  readonly #options: ScheduleOptions;

  constructor(options: ScheduleOptions) {
    this.#options = options;
  }

  /** What is due, by the time at which the feed is known to be right; undefined for nothing. */
  due(published: PublishedShard | undefined, watermarkMs: number): Trigger | undefined {
    if (!published) return 'schedule';
    const { refreshMs, deltaEveryMs } = this.#options;
    const { base, delta, path } = published;
    const isDue = (
      { number, thisUpdateMs, knownMs = thisUpdateMs }: PublishedShard['base'],
      everyMs: number,
    ) => {
      const ageMs = watermarkMs - knownMs;
      // One of a time to come was issued by a clock that was ahead: no relying party can use it yet.
      return ageMs >= everyMs * jitter(path, number) || ageMs < -aheadMsMax;
    };
    if (isDue(base, refreshMs)) return 'schedule';
    if (deltaEveryMs === null) return undefined;
    if (!delta || isDue(delta, deltaEveryMs)) return 'delta';
    return undefined;
  }

  /** Whether a CRL has used up half of its life, or is of a time to come, and still has no successor. */
  isOverdue({ complete, delta }: PublishedShard): boolean {
    const nowMs = this.#options.clock.wallMs();
    const isOld = ({ thisUpdateMs, knownMs = thisUpdateMs, nextUpdateMs }: PublishedCrl): boolean =>
      nowMs > (knownMs + nextUpdateMs) / 2 || nowMs < thisUpdateMs - aheadMsMax;
    return isOld(complete) || (this.#options.deltaEveryMs !== null && delta !== null && isOld(delta));
  }
}

/** From 0.75 to 1, by chance that is the same for the same CRL. */
function jitter(path: string, number: number): number {
  let hash = Math.imul(number % 2 ** 32, 0x9e3779b1);
  for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193);
  return 0.75 + (0.25 * ((hash ^ (hash >>> 15)) >>> 0)) / 2 ** 32;
}
