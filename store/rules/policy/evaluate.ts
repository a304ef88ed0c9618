import { keyOf, sameKey } from '../../../core/model/certificate-id.ts';
import { type HolderFacts, noFacts } from '../../../core/model/holder-life.ts';
import type { Plan } from '../../../core/model/plan.ts';
import type { HoldSource } from '../../../core/model/revocation.ts';
import type { CertificateView } from '../../api/certificate-store.ts';
import type { PlanRequest } from '../../api/plan-request.ts';
import type { PolicyTable } from '../../api/policy.ts';
import { planArrival, planCardEnded, planDeliveries, planUnconfirmed } from './arrival-plan.ts';
import { isLive, type Owned } from './cascade.ts';
import { planBlockedKey, planCertificate } from './certificate-plan.ts';
import { occurrenceOf, planEvent } from './event-plan.ts';

/**
 * What a request does to all that a holder has, by the policy table. Throws `bad-request` for an event that the table does not have
 * for its target, `illegal-transition` for what it does not allow.
 */
export function evaluate(
  policy: PolicyTable,
  request: PlanRequest,
  has: { readonly views: readonly CertificateView[]; readonly facts?: HolderFacts; readonly nowMs: number },
): Plan {
  const owned = { facts: noFacts, ...has };
  switch (request.type) {
    case 'event': {
      const occurrence = occurrenceOf(policy, request);
      return occurrence.rule.delivery === 'confirms'
        ? planDeliveries(occurrence, owned)
        : planEvent(occurrence, owned);
    }
    case 'certificate':
      return planCertificate(policy, request, owned);
    case 'blocked-key':
      return planBlockedKey(policy, request.key, owned);
    case 'arrived':
      return planArrival(policy, request, owned);
    case 'unconfirmed':
      return planUnconfirmed(policy, request, owned);
    case 'held-instead':
      return heldInstead(evaluate(policy, request.of, has), request.by, owned);
    case 'card-ended':
      return planCardEnded(policy, request.mediumId, owned);
  }
}

/** The holds that take the place of a plan's revocations, until a second person approves those. */
function heldInstead({ changes, lastDay }: Plan, by: HoldSource, owned: Owned): Plan {
  const held = changes.filter(({ change, ...key }) => {
    const view = owned.views.find((candidate) => sameKey(candidate, key));
    return change.action === 'revoke' && view !== undefined && isLive(view, owned.nowMs);
  });
  // A card whose last day moves forward ends with it.
  const onCard = owned.views.filter(
    (view) => view.mediumId === lastDay?.mediumId && isLive(view, owned.nowMs),
  );
  const cause = { event: 'certificate', cascadedFrom: null, partOf: null };
  return {
    changes: [
      ...held.map((each) => ({ ...each, change: { action: 'hold', by } as const })),
      ...onCard.map((view) => ({ ...keyOf(view), change: { action: 'hold', by } as const, cause })),
    ],
    ...{ orders: [], reissue: [] },
  };
}
