import type { CertificateId } from '../model/certificate-id.ts';
import type { DeviceClass } from '../model/device.ts';
import type { RestrictionFacts } from '../model/restriction.ts';
import type { CertificateStatus } from '../model/revocation.ts';
import type { VerifierFacts } from '../model/verifier.ts';
import type { Bytes } from '../runtime/bytes.ts';

/** An authority exists. Followers learn its certificate here, and choose by key, never by name. */
export interface AuthorityEvent {
  readonly type: 'authority';
  readonly authority: string;
  /** Certificate DER, base64. */
  readonly certificate: string;
}

/** A generation of an authority certifies the key of another: published with their certificates, under this name. */
export interface LinkEvent {
  readonly type: 'link';
  /** See `linkName`. */
  readonly link: string;
  /** Certificate DER, base64. */
  readonly certificate: string;
}

/** An authority numbers its certificates under a new epoch; its key comes by `StatusFeed.epochKey`. */
export interface EpochEvent {
  readonly type: 'epoch';
  readonly authority: string;
  readonly epoch: number;
}

/** A CRL shard exists, and with it a distribution point that certificates name. */
export interface ShardEvent {
  readonly type: 'shard';
  readonly shard: string;
  readonly authority: string;
  /** DistributionPointName DER, base64: the octets that stand in the certificates. */
  readonly distributionPointName: string;
  /** Path below the CRL publisher's address. */
  readonly path: string;
}

/** Phones that no match of a restriction can tell apart; never other than it was. */
export interface DeviceClassEvent {
  readonly type: 'device-class';
  readonly deviceClass: string;
  readonly facts: DeviceClass;
}

/** Of which class a certificate's phone is: the highest version is the right one. Comes before the certificate's first status. */
export type DeviceEvent = CertificateId & {
  readonly type: 'device';
  readonly deviceClass: string;
  readonly version: number;
  /** Of the certificate, as in its status. */
  readonly notAfterMs: number;
  readonly shard: string | null;
};

/** All that a restriction does to certificates of the classes that it matches; there is no event of each. */
export interface RestrictionEvent extends RestrictionFacts {
  readonly type: 'restriction';
}

/**
 * One certificate's whole status, not a difference: the highest version is the right one. What restrictions make of it follows from its class:
 * see `effectiveStatus`.
 */
export type StatusEvent = CertificateId &
  CertificateStatus & {
    readonly type: 'status';
    readonly change: 'issued' | 'revoked' | 'held' | 'released' | 'retired';
    readonly version: number;
    readonly notAfterMs: number;
    readonly shard: string | null;
  };

/** What followers keep for the CA alone, and cannot read: rows that a record restored from a backup must not have forgotten. */
export interface SealedEvent {
  readonly type: 'sealed';
  /** See `JournalSeal.seal`. */
  readonly sealed: string;
}

/** A verifier is on the register, or is another than it was. Of its secrets there are hashes only. */
export interface VerifierEvent extends VerifierFacts {
  readonly type: 'verifier';
}

export type FeedEvent =
  | AuthorityEvent
  | LinkEvent
  | EpochEvent
  | ShardEvent
  | DeviceClassEvent
  | DeviceEvent
  | RestrictionEvent
  | StatusEvent
  | VerifierEvent
  | SealedEvent;

/** Where a follower stands: the record's incarnation and, for each writer, the last position it has applied. */
export interface FeedCursor {
  readonly incarnation: string;
  readonly positions: Readonly<Record<string, number>>;
}

export interface FeedBatch {
  readonly events: readonly FeedEvent[];
  /** The follower's cursor once the batch is applied. */
  readonly cursor: FeedCursor;
  /** Its positions before. Absent in what an earlier version of the CA sent, as `proof` is. */
  readonly from?: FeedCursor['positions'];
  /** The CA's proof that this is its batch, for itself: see `JournalSeal.prove`. Absent where there are no events. */
  readonly proof?: string;
  /**
   * Wall-clock milliseconds: every change committed before then is in this batch or an earlier one. Zero where
   * more is on record already, of which nothing is known yet.
   */
  readonly watermarkMs: number;
}

/** A follower elsewhere that says what it has applied, so that a revocation is acknowledged when it knows of it. */
export interface ConfirmingFollower {
  /** The same for each connection of one process, and for no other: the client's fingerprint, a space, and what the process chose. */
  readonly key: string;
  /** How long it answers by the last watermark that it has applied, milliseconds. */
  readonly answersForMs: number;
}

/** A confirming follower on one of its connections, as the side that serves it goes on. */
export interface Confirming {
  /** Its next batch is about to be read. */
  reads(): void;
  /** What was read is about to be sent. Gives the watermark to send: 0 where the follower has yet to confirm what it missed. */
  sent(watermarkMs: number): number;
  /** It says how far it has come, by writer. */
  applied(positions: FeedCursor['positions']): void;
  /** Its connection has ended. */
  end(): void;
}

export interface FeedFollower {
  /** Called with one batch at a time, in order; the next comes only when this one has been applied. */
  apply(batch: FeedBatch): void | Promise<void>;
}

/** The side that serves followers elsewhere: each at its own pace, none holding up the others or the record. */
export interface FeedSource {
  /**
   * Batches from behind `cursor` on, and then as they come, with heartbeats; ends when `signal` aborts. Throws
   * `not-found` as `follow` does.
   */
  stream(cursor: FeedCursor | undefined, signal: AbortSignal): AsyncIterable<FeedBatch>;
  /**
   * A follower that confirms connects; with a cursor it may answer by what it has. `stop` ends its connection where it confirms nothing.
   * Throws `overloaded` where too many are known.
   */
  confirming(follower: ConfirmingFollower, hasCursor: boolean, stop: () => void): Confirming;
  epochKey(authority: string, epoch: number): Promise<Bytes>;
}

/**
 * What happens to certificates, in the order in which each writer recorded it.
 *
 * - Durability: an event is delivered only once it is durable in the record.
 * - Ordering: each writer's events are gapless and in order; an event may be delivered twice, after a
 *   reconnection, and is then the same.
 * - Liveness: batches without events are heartbeats that move the watermark on.
 * - It carries issuance, not only revocation: without it *good* and *never issued* look alike. It carries no
 *   personal data.
 */
export interface StatusFeed {
  /**
   * Delivers everything behind `cursor` (everything there is, without one) and then what comes, until `signal`
   * aborts. Resolves once the follower has applied what was on record when it was called. Rejects with
   * `not-found` where the cursor is of another incarnation or beyond the head.
   */
  follow(follower: FeedFollower, cursor: FeedCursor | undefined, signal: AbortSignal): Promise<void>;
  /** The AES key of an epoch, 16 octets: the follower keeps it in memory only. */
  epochKey(authority: string, epoch: number): Promise<Bytes>;
}
