import { type CertificateId, keyOf, sameKey } from '../../../core/model/certificate-id.ts';
import type { HolderFacts } from '../../../core/model/holder-life.ts';
import { type HolderKind, slotOf } from '../../../core/model/kinds.ts';
import type { Plan, Target } from '../../../core/model/plan.ts';
import { must, PkiError } from '../../../core/runtime/errors.ts';
import type { CertificateView } from '../../api/certificate-store.ts';
import type { PlanRequest } from '../../api/plan-request.ts';
import type { PolicyTable } from '../../api/policy.ts';
import { isLive, type Owned, type Reach, toPlan, withCascade } from './cascade.ts';
import { type Occurrence, occurrenceOf, planEvent } from './event-plan.ts';

// Plans for the delivery of an issuance: confirmed, not confirmed in time, or its card ended.

/** Refuses with `illegal-transition` the report that a card was handed over, where nothing on it is in force. */
export function refuseDeliveryOfRevoked(policy: PolicyTable, request: PlanRequest, owned: Owned): void {
  if (request.type !== 'event' || request.target.type !== 'medium') return;
  const { rule } = occurrenceOf(policy, request);
  const { mediumId } = request.target;
  const isInForce = owned.views.some((view) => view.mediumId === mediumId && isLive(view, owned.nowMs));
  if (rule.delivery === 'confirms' && !isInForce)
    throw new PkiError('illegal-transition', 'nothing on the card is in force: it is not to be handed over');
}

/** What was issued to a card has arrived: it is good, and takes the place of what it was issued for. */
export function planDeliveries({ policy, event, target }: Occurrence, owned: Owned): Plan {
  const mediumId = target.type === 'medium' ? target.mediumId : null;
  const awaited = owned.facts.awaited.filter((one) => one.mediumId === mediumId);
  return merged(awaited.map(({ issuanceId }) => confirmation(policy, { issuanceId, event }, owned)));
}

/** Plans one behind the other: what the first does to a certificate is done. */
function merged(plans: readonly Plan[]): Plan {
  const isFirst = <T extends CertificateId>(one: T, i: number, all: readonly T[]): boolean =>
    all.findIndex((other) => sameKey(other, one)) === i;
  return {
    changes: plans.flatMap(({ changes }) => changes).filter(isFirst),
    orders: plans.flatMap(({ orders }) => orders).filter(isFirst),
    reissue: plans.flatMap(({ reissue }) => reissue),
    confirmed: plans.flatMap(({ confirmed = [] }) => confirmed),
  };
}

/** What the confirmation that an issuance has arrived does. */
export function planArrival(
  policy: PolicyTable,
  { issuanceId, event }: Omit<Extract<PlanRequest, { type: 'arrived' }>, 'type'>,
  owned: Owned,
): Plan {
  const isAwaited = owned.facts.awaited.some((awaited) => awaited.issuanceId === issuanceId);
  return isAwaited ? confirmation(policy, { issuanceId, event }, owned) : toPlan([], [], owned.nowMs);
}

/** Certificates of an issuance that have not arrived. */
const notArrived = (
  issuanceId: string,
  { views, nowMs }: Pick<Owned, 'views' | 'nowMs'>,
): CertificateView[] =>
  views.filter(
    (view) => view.issuanceId === issuanceId && isLive(view, nowMs) && view.heldBy.includes('not-delivered'),
  );

function confirmation(
  policy: PolicyTable,
  { issuanceId, event }: { readonly issuanceId: string; readonly event: string },
  { views, facts, nowMs }: Owned,
): Plan {
  const awaited = facts.awaited.find((one) => one.issuanceId === issuanceId);
  const arriving = notArrived(issuanceId, { views, nowMs });
  // Not signed yet, or known to have arrived from elsewhere: nothing is left to be confirmed.
  if (!awaited || arriving.length === 0) return toPlan([], [], nowMs);
  const cause = { event, cascadedFrom: null, partOf: null };
  const changes = arriving.map((view) => ({
    ...keyOf(view),
    change: { action: 'release', by: 'not-delivered' } as const,
    cause,
  }));
  const ending = endingFor(policy, awaited, arriving, { views, facts, nowMs });
  const confirmed = [{ issuanceId, replaced: ending.changes.map(keyOf) }];
  if (awaited.overlapMs > 0) return { ...toPlan([], [], nowMs), changes, confirmed };
  return { ...ending, changes: [...changes, ...ending.changes], confirmed };
}

/** Changes to predecessors when the issuance arrives. */
function endingFor(
  policy: PolicyTable,
  { issuanceId, event, replacedMediumId }: HolderFacts['awaited'][number],
  arriving: readonly CertificateView[],
  { views, facts, nowMs }: Owned,
): Plan {
  if (event === null) return toPlan([], [], nowMs);
  const report = facts.events.find((one) => one.issuanceId === issuanceId && one.event === event);
  const target: Target =
    replacedMediumId === null
      ? { type: 'holder', holderId: must(arriving[0]?.holderId, 'holder of what arrives') }
      : { type: 'medium', mediumId: replacedMediumId };
  const slots = arriving.map(({ kind }) => slotOf(kind as HolderKind));
  const occasion = { issuanceId, slots, occurredMs: report?.isStated ? report.occurredMs : null };
  // What arrives together takes the place of nothing of each other.
  const others = views.filter(
    (view) => view.issuanceId !== issuanceId && !view.heldBy.includes('not-delivered'),
  );
  const succeeded = occurrenceOf(policy, { type: 'event', event, target, occasion });
  return planEvent(succeeded, { views: others, facts, nowMs });
}

/** What becomes of an issuance that was not confirmed in time. */
export function planUnconfirmed(
  policy: PolicyTable,
  { issuanceId, unconfirmed, event }: Extract<PlanRequest, { type: 'unconfirmed' }>,
  owned: Owned,
): Plan {
  const { views, facts, nowMs } = owned;
  if (!facts.awaited.some((awaited) => awaited.issuanceId === issuanceId)) return toPlan([], [], nowMs);
  const arriving = notArrived(issuanceId, { views, nowMs });
  const unsigned = views.filter((view) => view.issuanceId === issuanceId && view.state === 'reserved');
  // What is not signed yet is not settled as good: it waits until it is.
  if (unconfirmed === 'activate' && unsigned.length > 0) return toPlan([], [], nowMs);
  if (unconfirmed === 'activate' && arriving.length > 0)
    return planArrival(policy, { issuanceId, event }, owned);
  const cause = { event, cascadedFrom: null, partOf: null };
  const change = { action: 'revoke', reason: 'unspecified', invalidityMs: null } as const;
  // Also what is not signed yet: otherwise it would become good when it is.
  const changes = [...arriving, ...unsigned].map((view) => ({ view, change, cause }));
  return { ...toPlan(changes, [], nowMs), ended: [issuanceId] };
}

/** What ends with a card whose last day was moved to earlier: what outlives it, and the phones on it. */
export function planCardEnded(policy: PolicyTable, mediumId: string, owned: Owned): Plan {
  const cause = { event: 'card-ended', cascadedFrom: null, partOf: null };
  const change = { action: 'revoke', reason: 'cessationOfOperation', invalidityMs: null } as const;
  const changes = owned.views
    .filter((view) => view.mediumId === mediumId && isLive(view, owned.nowMs))
    .map((view) => ({ view, change, cause }));
  const reach: Reach = { cascade: 'whole', concerns: () => true, holds: () => true };
  return toPlan(withCascade(policy, changes, owned, reach), [], owned.nowMs);
}
