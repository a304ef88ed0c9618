import { type DeviceClass, type DeviceMatch, matchesDevice } from './device.ts';
import { goodStatus, type HoldSource, type RecordedStatus, type RevocationReason } from './revocation.ts';

// A restriction is a predicate, and nothing is written of a phone for a hold, a release or a revocation: what a certificate's status is
// follows from its own, from the class of its phone, and from the restrictions. The record, OCSP and CRL all work it out here.

/** What a restriction does to phones that it matches. Times are wall-clock milliseconds. */
export interface RestrictionFacts {
  readonly restrictionId: string;
  /** The highest is the right one. */
  readonly version: number;
  readonly match: DeviceMatch;
  readonly heldMs: number;
  /** When it ended; what it has revoked stays so. */
  readonly endedMs: number | null;
  readonly revokedMs: number | null;
  readonly reason: RevocationReason | null;
  /** The last cohort that it is about; null while it is in force. */
  readonly lastCohort: number | null;
}

/** What restrictions make of the certificates of a class. */
export type ClassStatus =
  | { readonly state: 'held'; readonly heldMs: number; readonly heldBy: readonly HoldSource[] }
  | {
      readonly state: 'revoked';
      readonly heldMs: number;
      readonly reason: RevocationReason;
      /** The first that revoked it. */
      readonly restrictionId: string;
    };

/** Whether a restriction is about a class: by what its phones are, and when they were enrolled. */
export const isAboutClass = (
  { match, lastCohort }: Pick<RestrictionFacts, 'match' | 'lastCohort'>,
  phone: DeviceClass,
): boolean => phone.cohort <= (lastCohort ?? phone.cohort) && matchesDevice(match, phone);

/** undefined where nothing restricts the class. */
export function classStatus(
  phone: DeviceClass,
  restrictions: readonly RestrictionFacts[],
): ClassStatus | undefined {
  const about = restrictions
    .filter((restriction) => isAboutClass(restriction, phone))
    .sort((a, b) => a.heldMs - b.heldMs || a.restrictionId.localeCompare(b.restrictionId));
  // A phone that entered a restricted kind later is restricted from that time on.
  const since = (ms: number): number => Math.max(ms, phone.sinceMs ?? ms);
  const revoking = about
    .filter(({ revokedMs }) => revokedMs !== null)
    .sort((a, b) => (a.revokedMs ?? 0) - (b.revokedMs ?? 0))[0];
  if (revoking) {
    const { restrictionId, reason, revokedMs } = revoking;
    // Of all that held it as it was revoked, the earliest: what ends afterwards changes nothing of it.
    const held = about.find((each) => each === revoking || isHolding(each, revokedMs ?? 0));
    const heldMs = since((held ?? revoking).heldMs);
    return { state: 'revoked', heldMs, reason: reason ?? 'cessationOfOperation', restrictionId };
  }
  const holding = about.filter(({ endedMs }) => endedMs === null);
  const [first] = holding;
  if (!first) return undefined;
  const heldBy = holding.map(({ restrictionId }): HoldSource => `restriction:${restrictionId}`);
  return { state: 'held', heldMs: since(first.heldMs), heldBy };
}

const isHolding = ({ heldMs, endedMs }: RestrictionFacts, atMs: number): boolean =>
  heldMs <= atMs && (endedMs ?? atMs) >= atMs;

/** Restrictions as they were after an act of one of them; what others did in the same millisecond came in the order of their ids. */
export function restrictionsAfter(
  restrictions: readonly RestrictionFacts[],
  { restrictionId: by, atMs }: { readonly restrictionId: string; readonly atMs: number },
): RestrictionFacts[] {
  const isPast = (ms: number | null, id: string): boolean =>
    ms !== null && (ms < atMs || (ms === atMs && id <= by));
  return restrictions
    .filter(({ heldMs, restrictionId }) => isPast(heldMs, restrictionId))
    .map((each) => ({
      ...each,
      endedMs: isPast(each.endedMs, each.restrictionId) ? each.endedMs : null,
      revokedMs: isPast(each.revokedMs, each.restrictionId) ? each.revokedMs : null,
    }));
}

/** The same restrictions but for what one act did. */
export const withoutAct = (
  restrictions: readonly RestrictionFacts[],
  { restrictionId, action }: { readonly restrictionId: string; readonly action: string },
): RestrictionFacts[] =>
  restrictions.flatMap((each): RestrictionFacts[] => {
    if (each.restrictionId !== restrictionId) return [each];
    if (action === 'hold') return [];
    return [
      action === 'revoke' ? { ...each, revokedMs: null } : { ...each, endedMs: null, lastCohort: null },
    ];
  });

/**
 * A certificate's status, of its own and its class's. A revocation keeps the time of the earliest hold. What is being issued is held once it
 * is good. What had ended before is as it was.
 */
export function effectiveStatus(
  own: RecordedStatus,
  ofClass: ClassStatus | undefined,
  notAfterMs: number,
): RecordedStatus {
  if (!ofClass || ofClass.heldMs > notAfterMs) return own;
  if (own.state === 'revoked' || own.state === 'retired') return own;
  const sinceMs = Math.min(ofClass.heldMs, own.revokedMs ?? ofClass.heldMs);
  if (ofClass.state === 'revoked') {
    const { reason } = ofClass;
    return { state: 'revoked', reason, revokedMs: sinceMs, invalidityMs: null, heldBy: [] };
  }
  if (own.state === 'reserved') return own;
  const heldBy = [...own.heldBy, ...ofClass.heldBy];
  return { state: 'held', reason: 'certificateHold', revokedMs: sinceMs, invalidityMs: null, heldBy };
}

const isOfRestriction = (by: HoldSource): boolean => by.startsWith('restriction:');

/**
 * What is recorded of a certificate itself where its status becomes `to`: not what restrictions hold, which ends with them. `before`: what was
 * recorded.
 */
export function ownStatus(to: RecordedStatus, before: RecordedStatus, nowMs: number): RecordedStatus {
  if (to.state !== 'held' || !to.heldBy.some(isOfRestriction)) return to;
  const heldBy = to.heldBy.filter((by) => !isOfRestriction(by));
  if (heldBy.length > 0)
    return { ...to, heldBy, revokedMs: before.state === 'held' ? before.revokedMs : nowMs };
  return goodStatus;
}
