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

/**
 * `reserved`: to-be-signed bytes are on record, no signature has left. `retired`: the archive cutoff has passed.
 * Revoked is final.
 */
export type CertificateState = 'reserved' | 'good' | 'held' | 'revoked' | 'retired';

export interface CertificateStatus {
  readonly state: CertificateState;
  readonly reason: RevocationReason | null;
  /** When it was held or revoked; hold turned into revocation keeps the time of the hold. */
  readonly revokedMs: number | null;
  /** When the key is known or suspected to have been compromised (RFC 5280 §5.3.2). */
  readonly invalidityMs: number | null;
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
export interface RecordedStatus extends CertificateStatus {
  readonly heldBy: readonly HoldSource[];
}

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
  return { state: 'good', reason: null, revokedMs: null, invalidityMs: null, heldBy };
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
