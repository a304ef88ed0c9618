import type { ShardEvent } from '../../core/feed/feed.ts';
import type { Shard } from '../api/certificate-store.ts';
import type { Transaction } from '../engine/record.ts';

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
