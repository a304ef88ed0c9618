import type { Bytes } from '../runtime/bytes.ts';

/** What is published of one shard: CRLs that fit each other. */
export interface Publication {
  readonly path: string;
  /** The greatest CRL number of them. */
  readonly number: number;
  /** What the publisher knows of them, JSON. */
  readonly described: string;
  readonly complete: Bytes;
  /** The complete CRL that the delta goes on from; null where that is `complete`. */
  readonly base: Bytes | null;
  readonly delta: Bytes | null;
}

/** What takes the place of a publication: the complete CRL stays where there is none, and becomes the base where `isBase`. */
export interface PublicationChange extends Pick<Publication, 'path' | 'number' | 'described' | 'delta'> {
  /** Number of what it replaces; 0 where nothing was published. */
  readonly seenNumber: number;
  readonly complete: Bytes | null;
  readonly isBase: boolean;
  /** Where it is known, and is not `complete`: otherwise it follows from what is there. */
  readonly base?: Bytes;
}

/** How fresh what is published of one shard is: the complete CRL, and its delta; milliseconds since 1970. */
export interface Freshness {
  readonly path: string;
  readonly number: number;
  readonly octets: number;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** null where there are no deltas. */
  readonly deltaNextUpdateMs: number | null;
}

/** What a node has published, for those that take it from there. */
export interface Published {
  /** Shards of which a CRL with a greater number is published, by that number. Numbers are milliseconds since 1970, or more. */
  above(number: number): Promise<readonly Pick<Publication, 'path' | 'number'>[]>;
  get(path: string): Promise<Publication | undefined>;
}

/** The same in the process that has published it. */
export interface PublishedHere extends Published {
  /** Of shards in the order of their paths, behind one, so many at most. */
  freshness(after: string, limit: number): Promise<readonly Freshness[]>;
}

/** What the one node that publishes CRLs has published, for the others. */
export interface Publications {
  /** Whether this node is the one that publishes now. */
  isPublisher(): boolean;
  /** Lets another node publish for a while: this one cannot. */
  giveUp(): void;
  /** How far behind the last change earlier ones may still come. */
  readonly lateBy: number;
  /** Puts it there. False where another node publishes, or something else was published meanwhile: then nothing has changed. */
  put(change: PublicationChange): Promise<boolean>;
  /** What was put there after a change, in the order of changes, at most `limit`. */
  after(
    change: number,
    limit: number,
  ): Promise<readonly (Pick<Publication, 'path' | 'number'> & { readonly change: number })[]>;
  get(path: string): Promise<Publication | undefined>;
  /** Numbers of all that is there, by path. */
  numbers(): Promise<ReadonlyMap<string, number>>;
}
