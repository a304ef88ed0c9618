import type { Warning } from '../../core/node/warnings.ts';
import type { PublishedShard } from '../folder/published.ts';

/** Warns of CRLs that are too long for those who fetch them: of the longest, and of how many there are. */
export function tooLong(published: Iterable<PublishedShard>, octetsMax: number): Warning[] {
  let count = 0;
  let longest: PublishedShard | undefined;
  for (const shard of published) {
    if (shard.complete.octets <= octetsMax) continue;
    count += 1;
    if (!longest || shard.complete.octets > longest.complete.octets) longest = shard;
  }
  if (!longest) return [];
  const about = `${longest.path} (${longest.complete.octets} octets), the longest of ${count} beyond ${octetsMax}`;
  const act =
    'new certificates go to new shards where crl.shardCapacity is lower (crl.partition: municipality); this one shrinks as certificates end';
  return [{ kind: 'crl-too-long', about, atMs: null, act }];
}
