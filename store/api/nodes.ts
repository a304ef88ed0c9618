import type { Publications } from '../../core/model/publication.ts';

/** CA nodes that one record can have; each numbers requests by itself within a second. */
export const nodesMax = 8;

/** How far each writer's events have been applied, by writer. */
export type Positions = Readonly<Record<string, number>>;

/** How far both have come. */
export const leastOf = (a: Positions | undefined, b: Positions): Positions =>
  a === undefined
    ? b
    : Object.fromEntries(
        Object.entries(a).map(([writer, position]) => [writer, Math.min(position, b[writer] ?? 0)]),
      );

/** As far as either has come. */
export const mostOf = (a: Positions = {}, b: Positions): Positions => ({
  ...a,
  ...Object.fromEntries(
    Object.entries(b).map(([writer, position]) => [writer, Math.max(position, a[writer] ?? 0)]),
  ),
});

/** Whether that is as far, for each writer. */
export const covers = (applied: Positions = {}, positions: Positions): boolean =>
  Object.entries(positions).every(([writer, position]) => (applied[writer] ?? 0) >= position);

/** Work that one node does for all of them: what is due by time, what is sent, and CRLs. */
export type Work = 'duties' | 'crl';

/** The CA nodes that share a record, as one of them sees the others. */
export interface Nodes {
  /** This node's number, 0 to `nodesMax` − 1, which no other live node has; null where there is one node alone. Throws `record-unavailable` without a lease. */
  readonly ordinal: number | null;
  /** Whether this node does the work now. Another does once this one is gone. */
  does(work: Work): boolean;
  /**
   * The moment up to which what is read from now on is complete, wall-clock milliseconds: `nowMs`, or earlier while a transaction is
   * under way, or where this node may give no answers for later.
   */
  completeUntil(nowMs: number): Promise<number>;
  /** Says what there is on record, as far as this node knows, and how far all its followers have come. */
  announce(known: Positions, applied: Positions): void;
  /** Has `act` called with what another node knows to be on record. */
  onNews(act: (known: Positions) => void): void;
  /**
   * Resolves once the followers of every other node have come so far, or may say nothing any more by what they knew before.
   * Rejects with `record-unavailable` where it cannot be learned which nodes there are.
   */
  reached(positions: Positions): Promise<void>;
  /** The other nodes that may give answers now, with how many events this node’s followers have applied and theirs have not; null where one has not said. */
  others(): Promise<readonly { readonly node: string; readonly behind: number | null }[]>;
  /** CRLs as one of the nodes publishes them for all; null where there is one node alone. */
  readonly publications: Publications | null;
  /** With `mayAnswer` followers of this node go on answering: its lease ends by itself then. */
  close(mayAnswer: boolean): Promise<void>;
}

/** One node, which has the record to itself. */
export const onlyNode: Nodes = {
  ordinal: null,
  does: () => true,
  completeUntil: async (nowMs) => nowMs,
  announce: () => undefined,
  onNews: () => undefined,
  reached: async () => undefined,
  others: async () => [],
  publications: null,
  close: async () => undefined,
};
