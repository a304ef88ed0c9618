import type { Cause } from './act.ts';
import type { CertificateId } from './certificate-id.ts';
import type { StandingChange } from './holder-life.ts';
import type { CertificateKind, HolderKind } from './kinds.ts';
import type { RecordedStatus, StatusChange } from './revocation.ts';

// What an act does to a holder's certificates: as the policy plans it, and as it works out on the record.

/** Has a phone's TSM delete the key of one certificate: never of another that the phone may hold by then. */
export interface Order extends CertificateId {
  readonly type: 'remote-deletion';
  readonly mediumId: string;
}

/** A certificate that the holder needs a replacement for. */
export interface Reissue {
  readonly kind: HolderKind;
  readonly mediumId: string;
}

/** What one act does, worked out by the policy from the holder's certificates. Pure data. */
export interface Plan {
  readonly changes: readonly (CertificateId & { readonly change: StatusChange; readonly cause: Cause })[];
  readonly orders: readonly Order[];
  readonly reissue: readonly Reissue[];
  /** What becomes of the holder's standing. */
  readonly standing?: StandingChange | null;
  /** Issuances whose delivery this confirms, with the certificates whose place they take. */
  readonly confirmed?: readonly {
    readonly issuanceId: string;
    readonly replaced: readonly CertificateId[];
  }[];
  /** Issuances that never take the place of anything: nothing ends because of them any more. */
  readonly ended?: readonly string[];
  /** A card's last day that moves. */
  readonly lastDay?: { readonly mediumId: string; readonly toMs: number } | null;
}

export type Target =
  | { readonly type: 'holder'; readonly holderId: string }
  | { readonly type: 'medium'; readonly mediumId: string }
  | { readonly type: 'certificate'; readonly key: CertificateId };

export interface PlannedChange extends CertificateId {
  readonly kind: CertificateKind;
  readonly from: RecordedStatus;
  readonly to: RecordedStatus;
  readonly cause: Cause;
}

/** A plan as it works out on the record. */
export interface Consequence extends Omit<Plan, 'changes'> {
  readonly changes: readonly PlannedChange[];
}
