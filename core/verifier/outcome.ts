// What is said of a certificate. Only one of them lets it be relied on.

export type SourceName = 'ocsp' | 'crl' | 'filter';

/** Why it is not known whether a certificate is revoked. None of them is *good*. */
export type Uncertainty =
  /** The responder cannot answer now (OCSP tryLater, internalError). */
  | 'try-later'
  /** The responder, or the CRL, cannot be had. */
  | 'unreachable'
  /** What was had is too old, or from before something that was had already. */
  | 'stale'
  /** The verifier may not ask. */
  | 'not-allowed'
  /** A filter does not speak of this certificate; it names no CRL. */
  | 'not-covered'
  /** The responder does not know the certificate: no other source is asked. */
  | 'unknown'
  /** What was had is not signed as it must be, or is about something else. */
  | 'not-trusted';

export type Outcome =
  /** `knownAt`: when it was known to be right; `believeUntil`: until when it may be believed. */
  | {
      readonly status: 'good';
      readonly source: SourceName;
      readonly knownAt: Date;
      readonly believeUntil: Date;
    }
  /** `isHeld`: for now, not for good. Reason and time where the source has them. */
  | {
      readonly status: 'revoked';
      readonly source: SourceName;
      readonly isHeld: boolean;
      readonly reason: string | null;
      readonly revokedAt: Date | null;
    }
  /** Not what it was asked to be: `why` says what is wrong. */
  | {
      readonly status: 'invalid';
      readonly why: 'untrusted' | 'not-yet-valid' | 'wrong-purpose' | 'bad-signature';
      readonly detail: string;
    }
  /** Its time is over. Some relying parties accept it for a while: it was not asked whether it is revoked. */
  | { readonly status: 'expired'; readonly expiredAt: Date }
  | { readonly status: 'undetermined'; readonly why: Uncertainty; readonly detail: string };

/** Of a source alone. */
export type SourceOutcome = Extract<Outcome, { status: 'good' | 'revoked' | 'undetermined' }>;

export const undetermined = (why: Uncertainty, detail: string): SourceOutcome => ({
  status: 'undetermined',
  why,
  detail,
});

/** CRLReason by number (RFC 5280 §5.3.1). */
export const reasonNames: Readonly<Record<number, string>> = {
  0: 'unspecified',
  1: 'keyCompromise',
  2: 'cACompromise',
  3: 'affiliationChanged',
  4: 'superseded',
  5: 'cessationOfOperation',
  6: 'certificateHold',
  8: 'removeFromCRL',
  9: 'privilegeWithdrawn',
  10: 'aACompromise',
};
