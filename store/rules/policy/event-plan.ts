import { durationMs } from '../../../core/config/duration.ts';
import { sameKey } from '../../../core/model/certificate-id.ts';
import type { HolderFacts } from '../../../core/model/holder-life.ts';
import { type HolderKind, kindOf, slotOf } from '../../../core/model/kinds.ts';
import type { Plan, Target } from '../../../core/model/plan.ts';
import type { HoldSource, RevocationReason, StatusChange } from '../../../core/model/revocation.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { CertificateView } from '../../api/certificate-store.ts';
import type { Occasion, PlanRequest } from '../../api/plan-request.ts';
import type { PolicyCell, PolicyEvent, PolicyTable } from '../../api/policy.ts';
import {
  cardOf,
  isLive,
  issuedMs,
  mayRelease,
  type Owned,
  type PlannedChange,
  type Reach,
  toPlan,
  withCascade,
} from './cascade.ts';

/** An event of the table that has happened. */
export interface Occurrence {
  readonly policy: PolicyTable;
  readonly event: string;
  readonly rule: PolicyEvent;
  readonly target: Target;
  readonly occasion: Occasion;
}

/** Whether an event can change the certificate; keyCompromise may replace the reason of a revoked one. */
const isOpen = (view: CertificateView, cell: PolicyCell, nowMs: number): boolean =>
  isLive(view, nowMs) ||
  (cell === 'revoke:keyCompromise' && view.state === 'revoked' && view.notAfterMs > nowMs);

/** Finds an event of the table; `bad-request` where there is none, or it happens to something else. */
export function ruleOf<Event extends PolicyEvent>(
  policy: { readonly events: Readonly<Record<string, Event>> },
  event: string,
  target: Target,
): Event {
  const rule = Object.hasOwn(policy.events, event) ? policy.events[event] : undefined;
  if (!rule) throw new PkiError('bad-request', `event: there is no event ${event.slice(0, 40)}`);
  const fits =
    target.type === 'holder'
      ? rule.target === 'holder'
      : target.type === 'medium' && target.mediumId.startsWith(`${rule.target}:`);
  if (!fits) throw new PkiError('bad-request', `event: ${event} happens to a ${rule.target}`);
  return rule;
}

/** An event as the table has it. `bad-request` where the table has no such event for the target. */
export function occurrenceOf(
  policy: PolicyTable,
  { event, target, occasion = {} }: Extract<PlanRequest, { type: 'event' }>,
): Occurrence {
  return { policy, event, rule: ruleOf(policy, event, target), target, occasion };
}

/** What an event does to a holder's certificates; one that confirms deliveries is planned by `planDeliveries`. */
export function planEvent(occurrence: Occurrence, owned: Owned): Plan {
  const { rule } = occurrence;
  if (rule.delivery === 'discards') refuseDelivered(occurrence, owned);
  if (wasReportedBefore(occurrence, owned)) return toPlan([], [], owned.nowMs);
  const reissue = rule.reissue.filter((kind) => !isIssuedBy(occurrence, kind));
  return { ...toPlan(changesOf(occurrence, owned), reissue, owned.nowMs), ...effectsOf(occurrence, owned) };
}

/** A card that was delivered is not discarded any more: it would be taken from its holder. */
function refuseDelivered({ policy, event, target }: Occurrence, { facts }: Owned): void {
  if (target.type === 'medium' && isDelivered(policy, target.mediumId, facts))
    throw new PkiError(
      'illegal-transition',
      `${event}: the card was delivered; report card-returned or card-lost`,
    );
}

/** A last day is corrected before the card is delivered; afterwards it moves by an event of its own. */
export function refuseLateCorrection(
  policy: PolicyTable,
  { event, target }: { readonly event: string; readonly target: Target },
  facts: HolderFacts,
): void {
  if (target.type !== 'medium' || ruleOf(policy, event, target).lastDay !== 'moves') return;
  if (isDelivered(policy, target.mediumId, facts))
    throw new PkiError('illegal-transition', `${event}: the card was delivered already`);
}

/** Whether the delivery of a card was reported. */
const isDelivered = (policy: PolicyTable, mediumId: string, facts: HolderFacts): boolean =>
  facts.events.some(
    (report) => report.mediumId === mediumId && policy.events[report.event]?.delivery === 'confirms',
  );

/** Whether the issuance that the event is part of brings a kind: it is not to be issued once more. */
function isIssuedBy({ occasion, target }: Occurrence, kind: HolderKind): boolean {
  const type = target.type === 'medium' && target.mediumId.startsWith('phone:') ? 'phone' : 'card';
  return occasion.slots?.some((slot) => kind === kindOf(type, slot)) ?? false;
}

/** What an event does besides changing certificates. */
function effectsOf({ rule, target, occasion }: Occurrence, { views }: Owned): Partial<Plan> {
  const mediumId = target.type === 'medium' ? target.mediumId : null;
  const discarded = views.filter((view) => rule.delivery === 'discards' && view.mediumId === mediumId);
  const toMs = occasion.lastDayMs ?? null;
  return {
    ...(rule.standing === 'unchanged' ? {} : { standing: rule.standing }),
    ...(discarded.length === 0 ? {} : { ended: [...new Set(discarded.map((view) => view.issuanceId))] }),
    ...(toMs === null || mediumId === null ? {} : { lastDay: { mediumId, toMs } }),
  };
}

function changesOf(occurrence: Occurrence, owned: Owned): PlannedChange[] {
  const { policy, event, rule, occasion } = occurrence;
  const reach = reachOf(occurrence, owned);
  const partOf = occasion.issuanceId === undefined ? null : `issuance:${occasion.issuanceId}`;
  const occurredMs = occasion.occurredMs == null ? {} : { occurredMs: occasion.occurredMs };
  const cause = { event, cascadedFrom: null, partOf, ...occurredMs };
  const changes: PlannedChange[] = [];
  for (const view of touchedBy(occurrence.target, owned.views)) {
    if (!isOpen(view, rule.kinds[view.kind as HolderKind], owned.nowMs) || !reach.concerns(view)) continue;
    const change = changeOf(occurrence, view, owned, reach);
    if (change) changes.push({ view, change, cause });
  }
  return withCascade(policy, changes, owned, reach);
}

/** A change of the register that is on record already, from any caller: it changes nothing once more. */
function wasReportedBefore({ rule, event, occasion }: Occurrence, { views, facts }: Owned): boolean {
  if (!rule.register || occasion.occurredMs == null) return false;
  return facts.events.some(
    (report) =>
      report.event === event &&
      report.isStated &&
      report.occurredMs === occasion.occurredMs &&
      (report.issuanceId === null ||
        (report.issuanceId !== occasion.issuanceId && hasHappened(report.issuanceId))),
  );
  // What an issuance does happens with its completion, and with its delivery where that is awaited.
  function hasHappened(issuanceId: string): boolean {
    const isReserved = views.some((view) => view.issuanceId === issuanceId && view.state === 'reserved');
    return !isReserved && !facts.awaited.some((one) => one.issuanceId === issuanceId);
  }
}

/** Holds that an event of the table ends. */
function endedHolds({ endsHoldsOf }: PolicyEvent, { heldBy }: CertificateView): HoldSource[] {
  if (endsHoldsOf.length === 0) return heldBy.filter((by) => by === 'event' || by.startsWith('event:'));
  const ended: readonly HoldSource[] = ['event', ...endsHoldsOf.map((event): HoldSource => `event:${event}`)];
  return heldBy.filter((by) => ended.includes(by));
}

function reachOf({ policy, rule, event, occasion }: Occurrence, owned: Owned): Reach {
  const { facts, nowMs } = owned;
  const { slots, occurredMs } = occasion;
  const sinceMs = occurredMs ?? nowMs - durationMs(policy.lossSpan);
  // A certificate that was issued for the change, or after it was known, contains it already; so does a phone's that was copied
  // from it.
  const isIssuedFor = (view: CertificateView): boolean =>
    facts.events.some(
      (report) =>
        report.event === event &&
        report.occurredMs >= (occurredMs ?? Number.POSITIVE_INFINITY) &&
        (report.issuanceId === view.issuanceId ||
          (report.issuanceId === null && report.recordedMs <= issuedMs(view))),
    );
  const alreadyReflects = (view: CertificateView): boolean => {
    const card = rule.register ? cardOf(view, owned) : undefined;
    return rule.register && (isIssuedFor(view) || (card !== undefined && isIssuedFor(card)));
  };
  return {
    cascade: rule.cascade,
    concerns: (view) =>
      (rule.endsHoldsOf.length === 0 || endedHolds(rule, view).length > 0) &&
      (!rule.renewal || !slots || slots.includes(slotOf(view.kind as HolderKind))) &&
      !alreadyReflects(view),
    holds: (view) => rule.phones === 'all' || view.kind.startsWith('card') || issuedMs(view) >= sinceMs,
  };
}

function touchedBy(target: Target, views: readonly CertificateView[]): readonly CertificateView[] {
  if (target.type !== 'medium') return views;
  const onMedium = views.filter((view) => view.mediumId === target.mediumId);
  const resting = views.filter(
    ({ restsOn, mediumId }) =>
      mediumId !== target.mediumId && restsOn && onMedium.some((view) => sameKey(view, restsOn)),
  );
  return [...onMedium, ...resting];
}

function changeOf(
  { policy, rule, event }: Occurrence,
  view: CertificateView,
  owned: Owned,
  reach: Reach,
): StatusChange | undefined {
  const cell = rule.kinds[view.kind as HolderKind];
  if (cell === 'none') return undefined;
  if (cell === 'hold') return reach.holds(view) ? { action: 'hold', by: `event:${event}` } : undefined;
  if (cell === 'release') {
    const by = endedHolds(rule, view);
    const may =
      view.state === 'held' &&
      by.length > 0 &&
      mayRelease(policy, { view, by }, owned, (kind) => rule.kinds[kind] === 'release');
    return may ? { action: 'release', by } : undefined;
  }
  return { action: 'revoke', reason: cell.slice('revoke:'.length) as RevocationReason, invalidityMs: null };
}
