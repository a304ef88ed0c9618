import { ApprovalNeeded } from '../../core/model/approval.ts';
import type { Mandate } from '../../core/model/desk.ts';
import type { Actor, RequestScope } from '../../store/api/certificate-store.ts';
import { checkedPlan, type Manner } from '../../store/rules/policy/plan-hash.ts';
import { applyForCard, type CardRequest } from '../issue/card.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { IssuanceRequest } from '../issue/issuance.ts';
import { issue, previewIssuance } from '../issue.ts';
import { type Answered, issueOnce } from './answer.ts';
import type { Caller } from './caller.ts';
import { contentHashOf, firstAnswer } from './event-report.ts';
import { functionOfIssuance, mandateAt } from './mandate.ts';
import { planned } from './present.ts';

interface By {
  readonly scope: RequestScope;
  readonly actor: Actor;
  readonly mandate: Mandate;
  /** What a second person has seen that it would end. */
  readonly approvedPlan?: string | undefined;
  readonly mass: boolean;
}

/** In whose name a counter issues to a card: never that of the desk of phones. */
export function cardMandate(
  ca: CertificateAuthority,
  caller: Caller,
  { deskCode, event }: Pick<CardRequest, 'deskCode' | 'event'>,
): Mandate {
  const { events } = ca.config.policy;
  const rule = event === undefined || !Object.hasOwn(events, event) ? undefined : events[event];
  return mandateAt(ca, caller, { code: deskCode, function: functionOfIssuance(rule) });
}

/** Issues to a card, once: by its Idempotency-Key, and by the caller's id of the event that it comes with. */
export async function issueToCard<Body>(
  ca: CertificateAuthority,
  card: CardRequest & Manner,
  by: By,
): Promise<Answered<Body>> {
  // What comes without an event is made to happen once by its Idempotency-Key alone.
  const contentHash = card.event === undefined ? by.scope.bodyHash : await contentHashOf(ca, card);
  const first = await firstAnswer(ca, by.scope.client, { eventId: card.eventId, contentHash });
  if (first) return { status: first.status, body: first.body as Body, replayed: true };
  return issueOnce(ca, by.scope, async () => {
    const issuanceRequest = await applyForCard(ca, card, { ...by, contentHash });
    const planHash = by.approvedPlan ?? card.planHash;
    return issue(ca, checkedBy(issuanceRequest, { planHash })).catch(async (error: unknown) => {
      throw await withConsequence(ca, issuanceRequest, error);
    });
  });
}

/** Says with an act that waits for a second person what it would end. */
async function withConsequence(
  ca: CertificateAuthority,
  issuanceRequest: IssuanceRequest,
  error: unknown,
): Promise<unknown> {
  if (!(error instanceof ApprovalNeeded) || !issuanceRequest.succession) return error;
  const { isAwaited: _, ...consequence } = await previewIssuance(ca, issuanceRequest);
  return new ApprovalNeeded(error.act, planned(ca, consequence));
}

/** What issuing to a card would end. */
export async function previewCard(ca: CertificateAuthority, card: CardRequest & Manner, by: By) {
  const contentHash = await contentHashOf(ca, card);
  const first = await firstAnswer(ca, by.scope.client, { eventId: card.eventId, contentHash });
  if (first) return planned(ca, { changes: [], orders: [], reissue: [] });
  return preview(ca, await applyForCard(ca, card, { ...by, contentHash }), card);
}

export async function preview(ca: CertificateAuthority, issuanceRequest: IssuanceRequest, manner: Manner) {
  const { isAwaited: awaited, ...consequence } = await previewIssuance(ca, issuanceRequest);
  return { ...planned(ca, checkedPlan(manner, consequence)), awaited };
}

/** A request that is refused if it would end something else than its caller has seen. */
export function checkedBy(
  issuanceRequest: IssuanceRequest,
  manner: Pick<Manner, 'planHash'>,
): IssuanceRequest {
  const { succession } = issuanceRequest;
  if (!succession || manner.planHash === undefined) return issuanceRequest;
  return {
    ...issuanceRequest,
    succession: { ...succession, planHash: manner.planHash },
  };
}
