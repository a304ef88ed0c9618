import { keyOf, sameKey } from '../../../core/model/certificate-id.ts';
import type { HolderFacts } from '../../../core/model/holder-life.ts';
import type { HolderKind } from '../../../core/model/kinds.ts';
import type { Plan, Reissue } from '../../../core/model/plan.ts';
import type { HoldSource, StatusChange } from '../../../core/model/revocation.ts';
import { timeOfUuid } from '../../../core/runtime/uuid.ts';
import type { Cause, CertificateView } from '../../api/certificate-store.ts';
import type { PolicyTable } from '../../api/policy.ts';

// What follows for a phone from what happens to its card.

export interface PlannedChange {
  readonly view: CertificateView;
  readonly change: StatusChange;
  readonly cause: Cause;
}

/** All that a holder has, and when it is looked at. */
export interface Owned {
  readonly views: readonly CertificateView[];
  readonly facts: HolderFacts;
  readonly nowMs: number;
}

/** How far an act's consequences reach. */
export interface Reach {
  /** The phone certificate that rests on what ceases, or all of that phone. */
  readonly cascade: 'kind' | 'whole';
  /** Certificates that the act may concern at all. */
  readonly concerns: (view: CertificateView) => boolean;
  /** Certificates that a card's hold reaches. */
  readonly holds: (view: CertificateView) => boolean;
}

/** Certificates an act can still do something to. */
export const isLive = (view: CertificateView, nowMs: number): boolean =>
  (view.state === 'reserved' || view.state === 'good' || view.state === 'held') && view.notAfterMs > nowMs;

/** When a certificate was issued: its issuance is named after the time; notBefore lies a little earlier. */
export const issuedMs = ({ issuanceId, notBeforeMs }: CertificateView): number =>
  timeOfUuid(issuanceId) ?? notBeforeMs;

/**
 * The card certificate on which a phone's rests: where that one was replaced and the phone stayed, the one of its kind that
 * the same card has now.
 */
export function cardOf(
  { restsOn }: CertificateView,
  { views, nowMs }: Pick<Owned, 'views' | 'nowMs'>,
): CertificateView | undefined {
  const card = restsOn && views.find((view) => sameKey(view, restsOn));
  if (!card || isLive(card, nowMs)) return card ?? undefined;
  const present = views.find(
    (view) => view.mediumId === card.mediumId && view.kind === card.kind && isLive(view, nowMs),
  );
  return present ?? card;
}

/** Whether a phone's certificate was enrolled by the key of that card certificate. */
function wasEnrolledWith(view: CertificateView, card: CertificateView, { views, facts }: Owned): boolean {
  if (view.mediumId === null || !view.kind.startsWith('phone')) return false;
  const signer = facts.enrolledWith.get(view.issuanceId);
  if (signer) return sameKey(signer, card);
  // Records of earlier versions name no signer: it is what the signing certificate of the same issuance rests on.
  return (
    card.kind === 'card-signing' &&
    views.some(
      (sibling) =>
        sibling.issuanceId === view.issuanceId && sibling.restsOn && sameKey(sibling.restsOn, card),
    )
  );
}

/** Certificates to which a change of a card certificate goes on. */
function reachedBy(
  policy: PolicyTable,
  { view: card, change }: PlannedChange,
  direct: readonly PlannedChange[],
  { owned, reach }: { readonly owned: Owned; readonly reach: Reach },
): readonly CertificateView[] {
  const { views, nowMs } = owned;
  if (change.action === 'release' || !card.kind.startsWith('card')) return [];
  const resting = views.filter((view) => {
    const on = view.restsOn && cardOf(view, owned);
    return on && sameKey(on, card) && isLive(view, nowMs);
  });
  if (change.action === 'hold')
    return policy.cascade.hold === 'none' ? [] : resting.filter((view) => reach.holds(view));
  // The key that enrolled a phone leaked: a thief may have enrolled that phone.
  const enrolled =
    change.reason === 'keyCompromise' ? views.filter((view) => wasEnrolledWith(view, card, owned)) : [];
  const reached = reach.cascade === 'whole' ? othersOnSamePhone(resting, direct, owned) : resting;
  return [...new Set([...reached, ...enrolled])];
}

/** All that is on the phones of some certificates, but for what rests on a card certificate that lives on. */
function othersOnSamePhone(
  resting: readonly CertificateView[],
  direct: readonly PlannedChange[],
  owned: Owned,
): CertificateView[] {
  const livesOn = (card: CertificateView): boolean =>
    isLive(card, owned.nowMs) &&
    !direct.some(({ view, change }) => sameKey(view, card) && change.action === 'revoke');
  return owned.views.filter((view) => {
    const card = cardOf(view, owned);
    return resting.some(({ mediumId }) => mediumId === view.mediumId) && !(card && livesOn(card));
  });
}

/**
 * Adds what follows from each change for the certificates that rest on it, or, where all of a phone goes, for the others on
 * it; what is stronger already stays.
 */
export function withCascade(
  policy: PolicyTable,
  direct: readonly PlannedChange[],
  owned: Owned,
  reach: Reach,
): PlannedChange[] {
  const changes = [...direct];
  for (const first of direct) {
    const { view: card, change, cause } = first;
    for (const view of reachedBy(policy, first, direct, { owned, reach })) {
      if (!isLive(view, owned.nowMs) || !reach.concerns(view)) continue;
      const index = changes.findIndex((planned) => sameKey(planned.view, view));
      const planned = changes[index];
      if (planned?.change.action === 'revoke') continue;
      if (planned?.change.action === 'hold' && change.action === 'hold') continue;
      const cascaded = { view, change, cause: { ...cause, cascadedFrom: keyOf(card) } };
      if (index >= 0) changes[index] = cascaded;
      else changes.push(cascaded);
    }
  }
  return changes;
}

/** A phone certificate that ceases has its key deleted: one order a key, for others on the phone may live on. */
export function toPlan(
  changes: readonly PlannedChange[],
  reissued: readonly HolderKind[],
  nowMs: number,
): Plan {
  const ceasing = changes.filter(
    ({ view, change }) => change.action === 'revoke' && view.state !== 'revoked' && isLive(view, nowMs),
  );
  const reissue = new Map<string, Reissue>();
  for (const { view } of ceasing) {
    const kind = view.kind as HolderKind;
    if (view.mediumId === null || !reissued.includes(kind)) continue;
    reissue.set(`${kind} ${view.mediumId}`, { kind, mediumId: view.mediumId });
  }
  return {
    changes: changes.map(({ view, change, cause }) => ({ ...keyOf(view), change, cause })),
    orders: ceasing.flatMap(({ view }) =>
      view.mediumId === null || !view.kind.startsWith('phone')
        ? []
        : [
            {
              type: 'remote-deletion' as const,
              ...keyOf(view),
              mediumId: view.mediumId,
            },
          ],
    ),
    reissue: [...reissue.values()],
  };
}

/**
 * What rests on a card certificate that the same source holds is not released before that one: where a hold cascades, the
 * two are held alike. What else holds the card, and reaches the phone, holds the phone by itself.
 */
export function mayRelease(
  policy: PolicyTable,
  { view, by }: { readonly view: CertificateView; readonly by: readonly HoldSource[] },
  owned: Owned,
  /** Whether the same act releases certificates of the card's kind. */
  releases: (kind: HolderKind) => boolean = () => false,
): boolean {
  if (!view.restsOn || policy.cascade.hold === 'none') return true;
  const card = cardOf(view, owned);
  if (!card || !isLive(card, owned.nowMs) || card.state === 'reserved') return false;
  const holding = releases(card.kind as HolderKind)
    ? card.heldBy.filter((one) => !by.includes(one))
    : card.heldBy;
  return !holding.some((one) => one === 'event' || by.includes(one));
}
