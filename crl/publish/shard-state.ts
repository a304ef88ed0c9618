import type { Shard } from '../entries/entry-store.ts';
import type { PublishedShard } from '../folder/published.ts';
import type { Schedule } from './schedule.ts';

/** A shard as the publisher sees it. */
export interface ShardState {
  readonly shard: Shard;
  /** Monotonic milliseconds at which it was received. */
  readonly sinceMs: number;
  published: PublishedShard | undefined;
  /** In a row. */
  failures: number;
  /** Monotonic milliseconds. */
  notBeforeMs: number;
  /** Before what has changed is issued again, monotonic milliseconds. */
  restsUntilMs: number;
}

/** Within what time a shard that is new has its first CRL, or there is an alarm. */
const firstWithinMs = 60_000;

/** How many shards have a CRL that ought to have a successor, or ought to have one at all. `nowMs`: monotonic. */
export function countOverdue(states: Iterable<ShardState>, schedule: Schedule, nowMs: number): number {
  let overdue = 0;
  for (const { published, sinceMs } of states) {
    const isOverdue = published ? schedule.isOverdue(published) : nowMs - sinceMs > firstWithinMs;
    if (isOverdue) overdue += 1;
  }
  return overdue;
}

export function hasAny<T>(items: Iterable<T>, test: (item: T) => boolean): boolean {
  for (const item of items) if (test(item)) return true;
  return false;
}
