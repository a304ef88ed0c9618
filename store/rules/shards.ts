import type { ShardEvent } from '../../core/feed/feed.ts';
import type { Shard, ShardCommand, ShardLease } from '../api/certificate-store.ts';
import type { Transaction } from '../engine/record.ts';

/** Takes places on the newest shard of a series; opens the next where that one is full. */
export function takePlaces(tx: Transaction, command: ShardCommand): ShardLease {
  const { series, places, capacity, open } = command;
  const [newest] = tx.find('shard', { series }, { descending: true, limit: 1 });
  const room = newest ? capacity - newest.issued : 0;
  if (newest && room > 0) {
    const taken = Math.min(places, room);
    tx.update('shard', { ...newest, issued: newest.issued + taken }, newest);
    return { shard: newest, places: taken };
  }
  const shard = open(newest ? newest.number + 1 : 0);
  const taken = Math.min(places, capacity);
  openShard(tx, shard, taken);
  return { shard, places: taken };
}

/** A new shard, and the event by which followers know it. */
export function openShard(tx: Transaction, shard: Shard, issued: number): void {
  tx.insert('shard', { ...shard, issued });
  tx.appendEvent(shardEvent(shard));
}

/** The same where there is none of that name; else one more certificate names it. */
export function openOrCount(tx: Transaction, shard: Shard): void {
  const { series, number } = shard;
  const before = tx.get('shard', { series, number });
  if (before) tx.update('shard', { ...before, issued: before.issued + 1 }, before);
  else openShard(tx, shard, 1);
}

const shardEvent = ({ shard, authority, distributionPointName, path }: Shard): ShardEvent => ({
  type: 'shard',
  shard,
  authority,
  distributionPointName: Buffer.from(distributionPointName).toString('base64'),
  path,
});
