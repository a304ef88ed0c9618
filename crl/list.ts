import { type ParsedCrl, parseCrl } from '../core/asn1/crl-reader.ts';
import { DerError } from '../core/asn1/der-reader.ts';
import type { FeedCursor } from '../core/feed/feed.ts';
import type { PublicationChange } from '../core/model/publication.ts';
import { type Bytes, view } from '../core/runtime/bytes.ts';
import { PkiError } from '../core/runtime/errors.ts';
import type { StoredEntry } from './encode/bucket.ts';
import type { EntryReader, ShardContent } from './entries/entry-store.ts';
import type { Lease, PublishedCrl, PublishedFolder, PublishedShard } from './folder/published.ts';
import type { BuildOrder } from './issue/build-order.ts';
import { compose, type Predecessors, storedBySerial } from './issue/compose.ts';
import { type Issued, issue, knownAt, notGenuine, type Sign } from './issue/issue.ts';

export type BuildResult =
  | {
      readonly type: 'published' | 'unchanged';
      readonly shard: PublishedShard;
      /** See `EntryStore.published`. */
      readonly batch: number;
      /** Certificates that are listed no more because they have ended. */
      readonly ended: readonly StoredEntry[];
      /** What was damaged: files, and how. */
      readonly damaged: readonly string[];
    }
  /** Another publisher has the lease, or has followed the feed further: it publishes what is missing. */
  | { readonly type: 'busy' | 'behind'; readonly shard: PublishedShard | undefined };

/** What building needs of its surroundings. */
export interface BuildContext {
  readonly entries: EntryReader;
  readonly folder: PublishedFolder;
  readonly sign: Sign;
  /** Hands what is about to be published to other nodes. False where one of them publishes in our place. */
  readonly handOver: (change: PublicationChange) => Promise<boolean>;
}

/**
 * Publishes a shard's next CRLs: lease → what is published → what is to be listed → signatures → checks → hand over → replace.
 * Throws where anything of it fails; what was published then stays.
 */
export async function build(context: BuildContext, order: BuildOrder): Promise<BuildResult> {
  const { path } = order.shard;
  const lease = context.folder.lease(path, order.nowMs);
  if (!lease) return { type: 'busy', shard: context.folder.published(path) };
  let result: BuildResult | undefined;
  try {
    result = await buildWith(context, order, lease);
    return result;
  } finally {
    // Publishing releases the lease.
    if (result?.type !== 'published') context.folder.release(lease);
  }
}

async function buildWith(context: BuildContext, order: BuildOrder, lease: Lease): Promise<BuildResult> {
  const { published } = lease;
  const content = context.entries.read(order.shard.id, order.keys, order.nowMs);
  if (published && isBehind(content.cursor, published.cursor)) return { type: 'behind', shard: published };
  const isByTime = order.trigger === 'schedule' || order.trigger === 'delta';
  const { predecessors, damaged } = readPredecessors(context.folder, lease);
  // Another publisher's work, unknown to the caller: the caller decides again when the shard is due.
  if (published && predecessors.complete && isByTime && published.number > order.seenNumber)
    return { type: 'unchanged', shard: published, batch: 0, ended: [], damaged };
  try {
    return await buildFrom(context, order, { lease, content, predecessors, damaged });
  } catch (error) {
    const forged = notGenuine(predecessors, order.shard.certificate);
    if (forged.length === 0) throw error;
    const left = Object.fromEntries(forged.map((name) => [name, undefined]));
    const names = forged.map((name) => `${lease.path} (${name}): its signature does not verify`);
    return buildFrom(context, order, {
      lease,
      content,
      predecessors: { ...predecessors, ...left },
      damaged: [...damaged, ...names],
    });
  }
}

async function buildFrom(
  context: BuildContext,
  order: BuildOrder,
  from: {
    readonly lease: Lease;
    readonly content: ShardContent;
    readonly predecessors: Predecessors;
    readonly damaged: readonly string[];
  },
): Promise<BuildResult> {
  const { lease, content, damaged } = from;
  const { published } = lease;
  const predecessors = withUsableBase(from.predecessors, order.deltaValidityMs !== null);
  const { complete, base } = predecessors;
  // Without a base there is nothing that a delta could go on from.
  const isScheduled = order.trigger === 'schedule' || !complete || !base;
  const composition = compose(content.buckets, predecessors, { isScheduled, nowMs: knownAt(order) });
  if (order.trigger === 'event' && published && complete && !isScheduled) {
    const isSame = view(complete.entries).equals(composition.complete);
    if (isSame) return { type: 'unchanged', shard: published, batch: content.batch, ended: [], damaged };
  }
  const issuing = { order, composition, predecessors, content, isScheduled, before: published };
  const issued = await issue(issuing, context.sign);
  const next = publishedShard(order, lease, issued, {
    cursor: content.cursor,
    base: isScheduled ? null : base,
  });
  const replacement = { complete: issued.complete, delta: issued.delta, isBase: isScheduled, shard: next };
  const isOurs = await context.handOver({
    ...{ path: next.path, number: next.number, seenNumber: published?.number ?? 0, isBase: isScheduled },
    ...{ complete: issued.complete, delta: issued.delta, described: JSON.stringify(next) },
  });
  if (!isOurs) return { type: 'busy', shard: published };
  if (!(await context.folder.replace(lease, replacement))) return { type: 'busy', shard: published };
  const ended = [...storedBySerial(composition.ended.size > 0 ? content.buckets : [])]
    .filter(([serial]) => composition.ended.has(serial))
    .map(([, item]) => item);
  return { type: 'published', shard: next, batch: content.batch, ended, damaged };
}

/**
 * A base that others have gone on from, or that is later than the complete CRL, is of files that do not belong together. So
 * is one with a later complete CRL and no delta as late: what was said since the base is then not known, and the next
 * complete CRL begins with a base of its own.
 */
function withUsableBase(predecessors: Predecessors, hasDeltas: boolean): Predecessors {
  const { complete, base, delta } = predecessors;
  const isUsable =
    base &&
    complete &&
    base.number >= (delta?.baseNumber ?? 0) &&
    base.number <= complete.number &&
    (!hasDeltas || complete.number === base.number || complete.number <= (delta?.number ?? 0));
  return { ...predecessors, base: isUsable ? base : undefined };
}

/** Whether another publisher has published what we have not received yet. */
function isBehind(ours: FeedCursor, theirs: FeedCursor): boolean {
  if (ours.incarnation !== theirs.incarnation) return false;
  return Object.entries(theirs.positions).some(
    ([writer, position]) => (ours.positions[writer] ?? 0) < position,
  );
}

/** What is published, by its files. One that is damaged is as good as none. */
function readPredecessors(
  folder: PublishedFolder,
  lease: Lease,
): { predecessors: Predecessors; damaged: string[] } {
  const files = folder.read(lease.path);
  const damaged: string[] = [];
  const read = (name: keyof typeof files): ParsedCrl | undefined => {
    const octets = files[name];
    try {
      return octets && parseCrl(octets);
    } catch (error) {
      if (!(error instanceof DerError)) throw error;
      damaged.push(`${lease.path} (${name}): ${error.message}`);
      return undefined;
    }
  };
  const complete = read('complete');
  const base = files.base === files.complete ? complete : read('base');
  return { predecessors: { complete, base, delta: read('delta') }, damaged };
}

function publishedShard(
  order: BuildOrder,
  { path, published }: Lease,
  { number, thisUpdateMs, knownMs, complete, delta, baseNumber }: Issued,
  { cursor, base }: { readonly cursor: FeedCursor; readonly base: ParsedCrl | null | undefined },
): PublishedShard {
  const describe = (octets: Bytes, validityMs: number, before: PublishedCrl | null): PublishedCrl => ({
    number,
    thisUpdateMs,
    knownMs,
    nextUpdateMs: Math.max(knownMs, thisUpdateMs) + validityMs,
    octets: octets.length,
    lastModifiedMs: Math.max(Math.floor(order.nowMs / 1000) * 1000, (before?.lastModifiedMs ?? 0) + 1000),
  });
  const was = published?.complete ?? null;
  const now = complete ? describe(complete, order.validityMs, was) : was;
  if (!now) throw new PkiError('internal', 'a delta without a complete CRL');
  const wasDelta = published?.delta ?? null;
  return {
    path,
    number,
    complete: now,
    base: base ? baseOf(base, published) : { number, thisUpdateMs, knownMs },
    delta: delta ? { ...describe(delta, order.deltaValidityMs ?? 0, wasDelta), baseNumber } : null,
    cursor,
  };
}

/** A base that stays one is known to be right for the time that was remembered of it. */
function baseOf(
  { number, thisUpdateMs }: ParsedCrl,
  published: PublishedShard | undefined,
): PublishedShard['base'] {
  const before = published?.base;
  return before?.number === number ? before : { number, thisUpdateMs };
}
