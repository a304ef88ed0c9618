import { PkiError } from '../runtime/errors.ts';

/** CRLReason (RFC 5280 §5.3.1): the reasons this scheme gives, by number. */
export const reasonNumber = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
} as const;

export type RevocationReason = keyof typeof reasonNumber;

export function isRevocationReason(text: string): text is RevocationReason {
  return Object.hasOwn(reasonNumber, text);
}

/** `reserved`: to-be-signed bytes are on record, no signature has left. */
export interface UnrevokedStatus {
  readonly state: 'reserved' | 'good';
  readonly reason: null;
  readonly revokedMs: null;
  readonly invalidityMs: null;
}

export interface HeldStatus {
  readonly state: 'held';
  readonly reason: 'certificateHold';
  /** When it was first held. */
  readonly revokedMs: number;
  readonly invalidityMs: null;
}

/** Final. */
export interface RevokedStatus {
  readonly state: 'revoked';
  readonly reason: RevocationReason;
  /** A hold that is turned into a revocation keeps the time of the hold. */
  readonly revokedMs: number;
  /** When the key is known or suspected to have been compromised (RFC 5280 §5.3.2). */
  readonly invalidityMs: number | null;
}

/** The archive cutoff has passed: nothing is said of it any more. */
export interface RetiredStatus {
  readonly state: 'retired';
  readonly reason: null;
  readonly revokedMs: null;
  readonly invalidityMs: null;
}

export type CertificateStatus = UnrevokedStatus | HeldStatus | RevokedStatus | RetiredStatus;
export type CertificateState = CertificateStatus['state'];

/** Reads a status from its columns. `record-unavailable` where they are inconsistent. */
export function statusIn(columns: {
  readonly state: string;
  readonly reason: string | null;
  readonly revokedMs: number | null;
  readonly invalidityMs: number | null;
}): CertificateStatus {
  const { state, reason, revokedMs, invalidityMs } = columns;
  if (state === 'revoked' && reason !== null && isRevocationReason(reason) && revokedMs !== null)
    return { state, reason, revokedMs, invalidityMs };
  const none = { revokedMs: null, invalidityMs: null } as const;
  if (state === 'held' && reason === 'certificateHold' && revokedMs !== null)
    return { state, reason, revokedMs, invalidityMs: null };
  const isUnrevoked = state === 'good' || state === 'reserved' || state === 'retired';
  if (isUnrevoked && reason === null && revokedMs === null) return { state, reason, ...none };
  throw new PkiError(
    'record-unavailable',
    `the status of a certificate is inconsistent: ${state}, reason ${reason}, ${revokedMs === null ? 'without' : 'with'} a time`,
  );
}

/**
 * What holds a certificate, each source by itself: a life event, an operator (16 hex digits of the client's fingerprint), a
 * usage restriction, or that the card or phone has not arrived. `event` is an event whose name is not known: in records of
 * earlier versions, and after a restore.
 */
export type HoldSource =
  | 'event'
  | `event:${string}`
  | `operator:${string}`
  | `restriction:${string}`
  | 'not-delivered';

/** A status as the record keeps it: held for as long as anything holds it. */
export type RecordedStatus = CertificateStatus & { readonly heldBy: readonly HoldSource[] };

export const goodStatus: RecordedStatus = {
  state: 'good',
  reason: null,
  revokedMs: null,
  invalidityMs: null,
  heldBy: [],
};

export type StatusChange =
  | { readonly action: 'revoke'; readonly reason: RevocationReason; readonly invalidityMs: number | null }
  | { readonly action: 'hold'; readonly by: HoldSource }
  /** Ends these holds, where they are, and no other. */
  | { readonly action: 'release'; readonly by: HoldSource | readonly HoldSource[] };

/**
 * What a change makes of a status: the new status; the same object where nothing changes (every change is
 * idempotent); or undefined where the change is illegal. The only such rule in the project.
 */
export function changeStatus(
  status: RecordedStatus,
  change: StatusChange,
  nowMs: number,
): RecordedStatus | undefined {
  switch (change.action) {
    case 'revoke':
      return revoke(status, change.reason, change.invalidityMs, nowMs);
    case 'hold':
      return hold(status, change.by, nowMs);
    case 'release':
      return release(status, [change.by].flat());
  }
}

function hold(status: RecordedStatus, by: HoldSource, nowMs: number): RecordedStatus | undefined {
  if (status.state === 'held') {
    return status.heldBy.includes(by) ? status : { ...status, heldBy: [...status.heldBy, by] };
  }
  if (status.state !== 'good' && status.state !== 'reserved') return undefined;
  return { state: 'held', reason: 'certificateHold', revokedMs: nowMs, invalidityMs: null, heldBy: [by] };
}

/** Good only once nothing holds it any more. */
function release(status: RecordedStatus, ended: readonly HoldSource[]): RecordedStatus | undefined {
  if (status.state === 'good') return status;
  if (status.state !== 'held') return undefined;
  const heldBy = status.heldBy.filter((by) => !ended.includes(by));
  if (heldBy.length === status.heldBy.length) return status;
  if (heldBy.length > 0) return { ...status, heldBy };
  return goodStatus;
}

function revoke(
  status: RecordedStatus,
  reason: RevocationReason,
  invalidityMs: number | null,
  nowMs: number,
): RecordedStatus | undefined {
  if (status.state === 'retired') return undefined;
  if (status.state !== 'revoked') {
    return { state: 'revoked', reason, revokedMs: status.revokedMs ?? nowMs, invalidityMs, heldBy: [] };
  }
  // Final: only worsening to keyCompromise, with an earlier invalidityDate, is news.
  const worse = reason === 'keyCompromise' && status.reason !== 'keyCompromise';
  const earlier =
    reason === 'keyCompromise' &&
    invalidityMs !== null &&
    invalidityMs < (status.invalidityMs ?? Number.POSITIVE_INFINITY);
  if (!worse && !earlier) return status;
  return { ...status, reason, invalidityMs: earlier ? invalidityMs : status.invalidityMs };
}
