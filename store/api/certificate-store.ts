import type { FeedSource, StatusFeed } from '../../core/feed/feed.ts';
import type { Actor, Cause, RequestScope, Sealed, StoredAnswer } from '../../core/model/act.ts';
import type { ApprovalAct } from '../../core/model/approval.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { ClientKind } from '../../core/model/client-name.ts';
import type { Mandate } from '../../core/model/desk.ts';
import type { DeviceFacts } from '../../core/model/device.ts';
import type {
  Applet,
  Arrival,
  HolderFacts,
  RecordedReport,
  ReportedEvent,
  Standing,
} from '../../core/model/holder-life.ts';
import type { CertificateKind, Slot } from '../../core/model/kinds.ts';
import type { Consequence, Target } from '../../core/model/plan.ts';
import type { RecordedStatus } from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { EncodingBases } from './encoding-bases.ts';
import type { OperatorCommand } from './outcome.ts';
import type { PlanRequest } from './plan-request.ts';
import type { SwitchName } from './switch-names.ts';

export type { Actor, Cause, RequestScope, Sealed, StoredAnswer } from '../../core/model/act.ts';

interface AnyMedium {
  readonly mediumId: string;
  readonly holderId: string;
  /** Last moment of the card; of a phone, of the card it rests on. */
  readonly expiresMs: number;
}

export interface Card extends AnyMedium {
  readonly type: 'card';
  readonly restsOn: null;
  readonly platform: null;
  readonly model: null;
  readonly osVersion: null;
  readonly secureElement: null;
  readonly patchLevel: null;
}

/** What is not known is null: of phones that a restore adopted. */
export interface Phone extends AnyMedium, DeviceFacts {
  readonly type: 'phone';
  readonly restsOn: string | null;
}

export type Medium = Card | Phone;

export type CertificateView = CertificateId &
  RecordedStatus & {
    readonly kind: CertificateKind;
    readonly holderId: string | null;
    readonly mediumId: string | null;
    readonly issuanceId: string;
    readonly version: number;
    readonly notBeforeMs: number;
    readonly notAfterMs: number;
    readonly shard: string | null;
    readonly restsOn: CertificateId | null;
  };

/** A certificate in force, and when it ends: with its own last day, or with that of its card. */
export type EndingCertificate = CertificateView & { readonly endsMs: number };

/** Holders' certificates in force that end before a time, by their ends; with the first page those that their card's last day ends. */
export interface Ending extends Readonly<Record<'ending' | 'outliving', readonly EndingCertificate[]>> {
  readonly next: CertificateId | undefined;
}

export interface Shard {
  /** `card-signing/1/13113/0`: kind, generation, municipality, number. */
  readonly shard: string;
  /** The same without the number. */
  readonly series: string;
  readonly number: number;
  readonly authority: string;
  readonly distributionPointName: Bytes;
  readonly path: string;
}

/** One certificate of an issuance, before any signature exists. */
export interface CertificateDraft extends CertificateId {
  readonly kind: CertificateKind;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly shard: Shard | null;
  readonly restsOn: CertificateId | null;
  /** SHA-256 of the canonical key material (n‖e, or the uncompressed point). */
  readonly keyHash: Bytes;
  readonly toBeSigned: Sealed;
}

export interface ReserveCommand {
  readonly scope: RequestScope;
  readonly actor: Actor;
  readonly issuanceId: string;
  readonly medium: Medium;
  readonly certificates: readonly CertificateDraft[];
  /** Phones: the challenge, hashed, and the signed message it came in, which is kept as evidence. */
  readonly challengeHash: Bytes | null;
  readonly evidence: Sealed | null;
  /** What of the service this is; an operator may have closed it. */
  readonly function: SwitchName;
  /** The holder is notified of issue and end of a phone's certificates, whatever the preferences are. */
  readonly notifiesHolder?: boolean;
  /** A certificate for authentication without one for signing was asked for, and is no accident. */
  readonly authenticationOnly: boolean;
  /** What it takes the place of, as it is completed. */
  readonly succession: Succession | null;
  /** Phones: the card certificate whose key signed for it, which must be good; null where a desk's code stands for it. */
  readonly enrolledWith?: CertificateId | null;
  /** A code of a desk that this uses up, hashed. */
  readonly codeHash?: Bytes | null;
  /** The card's last day may be another than the one on record. */
  readonly movesLastDay?: boolean;
  /** In whose name it is asked for; null where the CA itself asks. */
  readonly mandate?: Mandate | null;
  /** The municipality that issues to a card; null of what is issued to a phone. */
  readonly municipality?: string | null;
  /** Keyed hash of the basic four, and the year in which the certificate with them ends; null where they are not compared. */
  readonly identity?: { readonly hash: Bytes; readonly year: number } | null;
  /** The card whose certificates are replaced has signed for it. */
  readonly isSignedByCard?: boolean;
  readonly arrival?: Arrival;
  readonly limits: {
    readonly cards: number;
    readonly phonesPerPlatform: number;
    /** How long after its certificates ceased a phone is the next holder's; null: only once their deletion is confirmed. */
    readonly handOverAfterMs?: number | null;
  };
}

/** A reservation, as far as it is checked against the record. */
export type WantedIssuance = Omit<
  ReserveCommand,
  'certificates' | 'actor' | 'challengeHash' | 'evidence' | 'codeHash'
> & {
  readonly certificates: readonly Pick<CertificateDraft, 'authority' | 'kind' | 'keyHash' | 'restsOn'>[];
};

/** What an issuance takes the place of. */
export interface Succession {
  readonly event: string;
  readonly target: Exclude<Target, { type: 'certificate' }>;
  /** How long the predecessors stay valid after it, milliseconds. */
  readonly overlapMs: number;
  /** What the issuance issues, and when the event occurred: see `Occasion`. */
  readonly slots: readonly Slot[];
  readonly occurredMs: number | null;
  /** Of a renewal: refused with `not-due` before the window of what ends first, and where `ends` would gain nothing. */
  readonly renewal?: {
    readonly windowMonths: number;
    /** When what is issued ends, where it may end with what it renews. */
    readonly ends: readonly { readonly slot: Slot; readonly notAfterMs: number }[] | null;
  };
  /** The plan that the caller has seen; another is refused with `plan-changed`. */
  readonly planHash?: string | undefined;
  /** The event as its caller reports it. */
  readonly report?: ReportedEvent;
}

export interface Reservation {
  readonly issuanceId: string;
  readonly certificates: readonly (CertificateView & { readonly toBeSigned: Sealed })[];
}

export interface CompleteCommand {
  readonly issuanceId: string;
  readonly actor: Actor;
  readonly certificates: readonly (CertificateId & { readonly signature: Bytes })[];
}

export interface Completion {
  /** `completed-before`: by another process, with other signatures, which are those that count. */
  readonly outcome: 'completed' | 'completed-before';
  /** Certificates whose place it has taken, or will. */
  readonly replaced: readonly CertificateId[];
  /** As in `CertificateStore.issuance`. */
  readonly isAwaited: boolean;
}

export interface ChangeCommand extends OperatorCommand {
  readonly target: Target;
  /** A challenge that this uses up, hashed. */
  readonly challengeHash?: Bytes;
  readonly plan: PlanRequest;
  /** The event as its caller reports it; null where one certificate was named. */
  readonly report?: ReportedEvent | null;
  /** What the TSM says of the applet that holds what it confirms. */
  readonly applet?: Applet | null;
  /** As in `ReserveCommand`. */
  readonly mandate?: Mandate | null;
  /** The municipality that the holder moved to. */
  readonly municipality?: string | null;
  /** The plan that the caller has seen; another is refused with `plan-changed`. */
  readonly planHash?: string | undefined;
  /** How long after the decision every OCSP node and file says what changes, milliseconds. */
  readonly knownAfterMs: number;
}

/** The outcome of a change. */
export interface ChangeOutcome extends Consequence {
  /** When every OCSP node and file says so, wall-clock milliseconds. */
  readonly knownByMs: number;
}

/** A challenge as it was given. */
export interface GivenChallenge {
  /** Base64. */
  readonly challenge: string;
  readonly expiresMs: number;
}

/** Blocks a public key: it is never certified again, and what it certifies is revoked. */
export interface BlockKeyCommand
  extends Pick<ChangeCommand, 'scope' | 'actor' | 'planHash' | 'knownAfterMs'> {
  /** As in `CertificateDraft`. */
  readonly keyHash: Bytes;
  /** As in `Mandate`. */
  readonly approvalsWanted?: readonly ApprovalAct[];
  readonly revocationsMax?: number | null;
}

export type Replay = StoredAnswer | { readonly type: 'issuance'; readonly issuanceId: string };

export interface HistoryEntry extends CertificateId {
  readonly atMs: number;
  readonly change: string;
  readonly reason: string | null;
  readonly cause: Cause;
  readonly actor: Actor;
}

export interface Client {
  readonly fingerprint: string;
  readonly name: string;
  readonly roles: readonly string[];
  readonly desks: readonly string[];
  /** Whose responder certificates it gets, in the role `ocsp`; `*` is every authority, also those to come. */
  readonly authorities: readonly string[];
  /** On whose holders it acts, in the roles `revoker` and `reader`; `*` is the nation. */
  readonly municipalities: readonly string[];
  readonly addedMs: number;
  readonly revokedMs: number | null;
}

/** What a client is bound to; `authorities` where it has the role `ocsp`, `municipalities` as `revoker` and `reader`. */
export type NewClient = Omit<Client, 'addedMs' | 'revokedMs' | 'authorities' | 'municipalities'> &
  Partial<Pick<Client, 'authorities' | 'municipalities'>> & { readonly kind: ClientKind };

/** Places on a shard of a series. */
export interface ShardCommand {
  readonly series: string;
  /** How many are wanted; fewer are given where the shard is nearly full. */
  readonly places: number;
  /** Certificates that may name one shard. */
  readonly capacity: number;
  /** What is opened where the newest shard is full, if it has the number that comes then; null: nothing. */
  readonly next: Shard | null;
}

export interface ShardLease {
  readonly shard: Shard;
  readonly places: number;
}

/** Places on a shard, or the number of the shard that has to be opened for them. */
export type ShardPlaces = ShardLease | { readonly opens: number };

/** A certificate as the record keeps it: apart, because the signature says nothing of anyone. */
export interface Encoding {
  readonly toBeSigned: Sealed;
  readonly signature: Bytes;
}

export interface Lease {
  readonly epoch: number;
  readonly first: number;
  readonly end: number;
}

/**
 * The record as the CA uses it.
 *
 * - Durability: a resolved write is on disk. One rejected with a `PkiError` other than `record-unavailable` has
 *   changed nothing, but for `function-closed` of `change` and `revoked-while-issuing` of `complete`, as those say; the fate of
 *   any other is what `replay` says of it.
 * - Concurrency: any number of calls at once, from any number of nodes; each write is one transaction that
 *   re-checks what it relies on. Writes of many callers share one commit.
 * - Visibility: a write that changes a status resolves only when every follower in this process has applied it.
 * - Errors: `PkiError` for refusals; `record-unavailable` when the database cannot be written.
 */
export interface CertificateStore extends EncodingBases {
  readonly feed: StatusFeed & FeedSource;

  /** What an earlier request of that scope was answered; `request-in-progress`, `idempotency-key-reused`. */
  replay(scope: RequestScope): Promise<Replay | undefined>;

  /** Every epoch of an authority, oldest first. */
  epochs(authority: string): Promise<readonly number[]>;
  /** The next positions of the authority's newest epoch, for this node alone, never handed out again. */
  leasePositions(authority: string, count: number): Promise<Lease>;
  /**
   * Places on the newest shard of a series, for this node alone: as many certificates may name it. Where that is full, `next` is
   * opened, if it has the number that comes then. Followers have received the shard when it resolves.
   */
  leaseShard(command: ShardCommand): Promise<ShardPlaces>;

  /** What reserving it would end, now; refused as that would be. Writes nothing. */
  previewReserve(wanted: WantedIssuance): Promise<Consequence & { readonly isAwaited: boolean }>;
  /** Makes an issuance durable before anything of it is signed. */
  reserve(command: ReserveCommand): Promise<void>;
  /**
   * Records the signatures. Idempotent. Where a certificate was revoked meanwhile, all of the issuance is, and this
   * rejects with `revoked-while-issuing`, as `replay` will; then its predecessors stay what they are.
   */
  complete(command: CompleteCommand): Promise<Completion>;
  /** Ends predecessors whose overlap has passed; called now and then. */
  endOverlaps(): Promise<void>;
  /** Carries out what the plan says of each issuance that was not confirmed in time; called now and then. */
  endWaits(unconfirmed: 'revoke' | 'activate'): Promise<void>;
  /** The same of each card whose last day was moved forward and has passed. */
  endShortened(): Promise<void>;
  /** Events of the policy table that issuances rest on which are under way, or whose predecessors are yet to end. */
  pendingEvents(): Promise<readonly string[]>;
  /** Ends this node's lease of a reservation that cannot be completed now, so that recovery may complete it. */
  releaseReservation(issuanceId: string, actor: Actor): Promise<void>;
  /**
   * Issuances whose reservations are to be rolled forward: those of any node whose lease has ended; with `own`, also this
   * node's, as after a restart, when no other process can be working on them.
   */
  pendingReservations(which: 'own-and-expired' | 'expired'): Promise<readonly string[]>;
  reservation(issuanceId: string): Promise<Reservation>;

  /** Revokes, holds, releases: all of a plan or nothing. */
  change(command: ChangeCommand): Promise<ChangeOutcome>;
  /** What `change` would do now. Writes nothing. */
  preview(command: Pick<ChangeCommand, 'target' | 'plan' | 'report'>): Promise<Consequence>;
  /** What `blockKey` would do now. Writes nothing. */
  /** Whose a card, phone or certificate is; null of no holder's, undefined where it is not on record. */
  holderIdOf(target: Target): Promise<string | null | undefined>;
  previewBlock(command: Pick<BlockKeyCommand, 'keyHash'>): Promise<Consequence>;

  /** Blocks a public key, whether or not it has been certified, and changes what it is in. */
  blockKey(command: BlockKeyCommand): Promise<ChangeOutcome>;

  /** Throws `challenge-not-usable` unless that client may use it now: a look before anything expensive. */
  checkChallenge(challengeHash: Bytes, client: string): Promise<void>;
  /** A single-use challenge for that client. */
  putChallenge(
    command: OperatorCommand & { readonly challenge: Bytes; readonly expiresMs: number },
  ): Promise<GivenChallenge>;

  /** The wrapped data key of that name: `wrapped`, unless there is one already. */
  dataKey(name: string, wrapped: Bytes): Promise<Bytes>;
  findDataKey(name: string): Promise<Bytes | undefined>;

  certificate(key: CertificateId): Promise<CertificateView | undefined>;
  /** What a certificate is made of; undefined while it is only reserved. */
  encoding(key: CertificateId): Promise<Encoding | undefined>;
  issuance(issuanceId: string): Promise<{
    readonly certificates: readonly CertificateView[];
    readonly replaced: readonly CertificateId[];
    /** It was held until its delivery was confirmed, or is. */
    readonly isAwaited: boolean;
  }>;
  holder(holderId: string): Promise<
    | {
        readonly media: readonly Medium[];
        readonly applets: readonly Applet[];
        readonly certificates: readonly CertificateView[];
        readonly facts: HolderFacts;
        readonly standing: Standing | null;
      }
    | undefined
  >;
  /** What became of an event that a client reported under an id of its own. */
  reported(client: string, eventId: string): Promise<RecordedReport | undefined>;
  medium(mediumId: string): Promise<Medium | undefined>;
  /** What happened to one certificate, or to all of a holder's, in the order in which it was recorded. */
  history(of: CertificateId | { readonly holderId: string }): Promise<readonly HistoryEntry[]>;
  /** Those among so many rows, by their ends, from behind one on. */
  endingBefore(beforeMs: number, after: CertificateId | undefined, rows: number): Promise<Ending>;
}
