import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Slot } from '../../core/model/kinds.ts';
import type { Target } from '../../core/model/plan.ts';
import type { HoldSource, StatusChange } from '../../core/model/revocation.ts';

/** Details of one reported event. */
export interface Occasion {
  /** The issuance that it is part of. */
  readonly issuanceId?: string;
  /** What that issues: a renewal concerns its predecessors in these slots alone. */
  readonly slots?: readonly Slot[];
  /** When it occurred, where that was stated. */
  readonly occurredMs?: number | null;
  /** The card's new last moment, where the event brings one. */
  readonly lastDayMs?: number | null;
}

/** The end of a hold: of the source that is named, or of the one that the caller can mean. */
export interface ReleaseRequest {
  readonly action: 'release-requested';
  readonly named: HoldSource | undefined;
  /** The caller's own holds. */
  readonly own: HoldSource;
}

/** A request to change a holder's certificates. Rules evaluate it against the policy table, inside the transaction. */
export type PlanRequest =
  | {
      readonly type: 'event';
      readonly event: string;
      readonly target: Target;
      readonly occasion?: Occasion;
    }
  /** What naming one certificate does, its cascade included. */
  | {
      readonly type: 'certificate';
      readonly key: CertificateId;
      readonly change: StatusChange | ReleaseRequest;
    }
  /** What blocking a key does to the certificate that it is in. */
  | { readonly type: 'blocked-key'; readonly key: CertificateId }
  /** An issuance has arrived. */
  | { readonly type: 'arrived'; readonly issuanceId: string; readonly event: string }
  /** It was not confirmed, in time or at all. */
  | {
      readonly type: 'unconfirmed';
      readonly issuanceId: string;
      readonly event: string;
      readonly unconfirmed: 'revoke' | 'activate';
    }
  /** What would revoke holds instead; nothing else of it is done. */
  | { readonly type: 'held-instead'; readonly of: PlanRequest; readonly by: HoldSource }
  /** A card ended before its certificates: its last day was moved. */
  | { readonly type: 'card-ended'; readonly mediumId: string };
