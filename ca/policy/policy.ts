import { durationMs } from '../../core/config/duration.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type HolderFacts, noFacts } from '../../core/model/holder-life.ts';
import { type HolderKind, kindOf, type Slot, slotOf } from '../../core/model/kinds.ts';
import type { Plan, Target } from '../../core/model/plan.ts';
import type { HoldSource, RevocationReason, StatusChange } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import type { Policy } from '../config/config.ts';
import {
  cardOf,
  isLive,
  issuedMs,
  keyOf,
  mayRelease,
  type Owned,
  type PlannedChange,
  type Reach,
  sameKey,
  toPlan,
  withCascade,
} from './cascade.ts';

export { planBlockedKey, planCertificate } from './certificate-plan.ts';

export type EventRule = Policy['events'][string];
export type Cell = EventRule['kinds'][HolderKind];

/** What is said of one occurrence of an event. */
export interface Occasion {
  /** The issuance that it is part of. */
  readonly issuanceId?: string;
  /** What that issues: a renewal concerns its predecessors in these slots alone. */
  readonly slots?: readonly Slot[];
  /** When it occurred, where that was stated. */
  readonly occurredMs?: number | null;
  /** The card's new last moment, where the event brings one. */
  readonly lastDayMs?: number | null;
}

interface Occurrence {
  readonly policy: Policy;
  readonly event: string;
  readonly rule: EventRule;
  readonly target: Target;
  readonly occasion: Occasion;
}

/** Certificates, and for keyCompromise the revoked too: worsening to it is the one change left to them. */
const isOpen = (view: CertificateView, cell: Cell, nowMs: number): boolean =>
  isLive(view, nowMs) ||
  (cell === 'revoke:keyCompromise' && view.state === 'revoked' && view.notAfterMs > nowMs);

/** Finds an event of the table; `bad-request` where there is none, or it happens to something else. */
export function ruleOf(policy: Policy, event: string, target: Target): EventRule {
  const rule = Object.hasOwn(policy.events, event) ? policy.events[event] : undefined;
  if (!rule) throw new PkiError('bad-request', `event: there is no event ${event.slice(0, 40)}`);
  const fits =
    target.type === 'holder'
      ? rule.target === 'holder'
      : target.type === 'medium' && target.mediumId.startsWith(`${rule.target}:`);
  if (!fits) throw new PkiError('bad-request', `event: ${event} happens to a ${rule.target}`);
  return rule;
}

/** What an event does to a holder's certificates. `bad-request` where the table has no such event for the target. */
export function planEvent(
  policy: Policy,
  event: string,
  target: Target,
  nowMs: number,
  occasion: Occasion = {},
) {
  const rule = ruleOf(policy, event, target);
  const occurrence = { policy, event, rule, target, occasion };
  return (views: readonly CertificateView[], facts: HolderFacts = noFacts): Plan => {
    const owned = { views, facts, nowMs };
    if (rule.delivery === 'confirms') return confirmDeliveries(occurrence, owned);
    if (rule.delivery === 'discards') refuseDelivered(occurrence, owned);
    if (wasToldBefore(occurrence, owned)) return toPlan([], [], nowMs);
    const reissue = rule.reissue.filter((kind) => !isIssuedBy(occurrence, kind));
    return { ...toPlan(changesOf(occurrence, owned), reissue, nowMs), ...effectsOf(occurrence, owned) };
  };
}

/** A card that was delivered is not discarded any more: it would be taken from its holder. */
function refuseDelivered({ policy, event, target }: Occurrence, { facts }: Owned): void {
  const isDelivered = facts.events.some(
    (report) =>
      target.type === 'medium' &&
      report.mediumId === target.mediumId &&
      policy.events[report.event]?.delivery === 'confirms',
  );
  if (isDelivered)
    throw new PkiError(
      'illegal-transition',
      `${event}: the card was delivered; report card-returned or card-lost`,
    );
}

/** Whether the issuance that the event is part of brings a kind: it is not to be issued once more. */
function isIssuedBy({ occasion, target }: Occurrence, kind: HolderKind): boolean {
  const type = target.type === 'medium' && target.mediumId.startsWith('phone:') ? 'phone' : 'card';
  return occasion.slots?.some((slot) => kind === kindOf(type, slot)) ?? false;
}

/** What an event does beside changing certificates. */
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
function wasToldBefore({ rule, event, occasion }: Occurrence, { views, facts }: Owned): boolean {
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
function endedHolds({ endsHoldsOf }: EventRule, { heldBy }: CertificateView): HoldSource[] {
  if (endsHoldsOf.length === 0) return heldBy.filter((by) => by === 'event' || by.startsWith('event:'));
  const ended: readonly HoldSource[] = ['event', ...endsHoldsOf.map((event): HoldSource => `event:${event}`)];
  return heldBy.filter((by) => ended.includes(by));
}

function reachOf({ policy, rule, event, occasion }: Occurrence, owned: Owned): Reach {
  const { facts, nowMs } = owned;
  const { slots, occurredMs } = occasion;
  const sinceMs = occurredMs ?? nowMs - durationMs(policy.lossSpan);
  // What was issued for a change that came no earlier, or once that was known, speaks of it already; and so does what a phone
  // copied from it.
  const isIssuedFor = (view: CertificateView): boolean =>
    facts.events.some(
      (report) =>
        report.event === event &&
        report.occurredMs >= (occurredMs ?? Number.POSITIVE_INFINITY) &&
        (report.issuanceId === view.issuanceId ||
          (report.issuanceId === null && report.recordedMs <= issuedMs(view))),
    );
  const speaksOfIt = (view: CertificateView): boolean => {
    const card = rule.register ? cardOf(view, owned) : undefined;
    return rule.register && (isIssuedFor(view) || (card !== undefined && isIssuedFor(card)));
  };
  return {
    cascade: rule.cascade,
    concerns: (view) =>
      (rule.endsHoldsOf.length === 0 || endedHolds(rule, view).length > 0) &&
      (!rule.renewal || !slots || slots.includes(slotOf(view.kind as HolderKind))) &&
      !speaksOfIt(view),
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

/** What was issued to a card has arrived: it is good, and takes the place of what it was issued for. */
function confirmDeliveries({ policy, event, target }: Occurrence, owned: Owned): Plan {
  const mediumId = target.type === 'medium' ? target.mediumId : null;
  const awaited = owned.facts.awaited.filter((one) => one.mediumId === mediumId);
  return merged(awaited.map(({ issuanceId }) => confirmation(policy, { issuanceId, event }, owned)));
}

/** What a desk reports as handed over is in force: the same plan, refused where nothing on the card is. */
export function handedOver(
  plan: (views: readonly CertificateView[], facts: HolderFacts) => Plan,
  target: Target,
  nowMs: number,
) {
  return (views: readonly CertificateView[], facts: HolderFacts): Plan => {
    const isOn = ({ mediumId }: CertificateView) => target.type === 'medium' && mediumId === target.mediumId;
    if (views.some((view) => isOn(view) && isLive(view, nowMs))) return plan(views, facts);
    throw new PkiError('illegal-transition', 'nothing on the card is in force: it is not to be handed over');
  };
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
export function planConfirmation(policy: Policy, issuanceId: string, event: string, nowMs: number) {
  return (views: readonly CertificateView[], facts: HolderFacts): Plan => {
    const isAwaited = facts.awaited.some((awaited) => awaited.issuanceId === issuanceId);
    return isAwaited
      ? confirmation(policy, { issuanceId, event }, { views, facts, nowMs })
      : toPlan([], [], nowMs);
  };
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
  policy: Policy,
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

/** What ends as something arrives. */
function endingFor(
  policy: Policy,
  { issuanceId, event, replacedMediumId }: HolderFacts['awaited'][number],
  arriving: readonly CertificateView[],
  { views, facts, nowMs }: Owned,
): Plan {
  if (event === null) return toPlan([], [], nowMs);
  const report = facts.events.find((one) => one.issuanceId === issuanceId && one.event === event);
  const target: Target =
    replacedMediumId === null
      ? { type: 'holder', holderId: arriving[0]?.holderId ?? '' }
      : { type: 'medium', mediumId: replacedMediumId };
  const slots = arriving.map(({ kind }) => slotOf(kind as HolderKind));
  const occasion = { issuanceId, slots, occurredMs: report?.isStated ? report.occurredMs : null };
  // What arrives together takes the place of nothing of each other.
  const others = views.filter(
    (view) => view.issuanceId !== issuanceId && !view.heldBy.includes('not-delivered'),
  );
  return planEvent(policy, event, target, nowMs, occasion)(others, facts);
}

/** What becomes of an issuance that was not confirmed in time. */
export function planUnconfirmed(
  policy: Policy,
  issuance: {
    readonly issuanceId: string;
    readonly unconfirmed: 'revoke' | 'activate';
    readonly event: string;
  },
  nowMs: number,
) {
  const { issuanceId, unconfirmed, event } = issuance;
  return (views: readonly CertificateView[], facts: HolderFacts): Plan => {
    if (!facts.awaited.some((awaited) => awaited.issuanceId === issuanceId)) return toPlan([], [], nowMs);
    const arriving = notArrived(issuanceId, { views, nowMs });
    const unsigned = views.filter((view) => view.issuanceId === issuanceId && view.state === 'reserved');
    // What is not signed yet is not settled as good: it waits until it is.
    if (unconfirmed === 'activate' && unsigned.length > 0) return toPlan([], [], nowMs);
    if (unconfirmed === 'activate' && arriving.length > 0)
      return planConfirmation(policy, issuanceId, event, nowMs)(views, facts);
    const cause = { event, cascadedFrom: null, partOf: null };
    const change = { action: 'revoke', reason: 'unspecified', invalidityMs: null } as const;
    // Also what is not signed yet, lest it be good once it is.
    const changes = [...arriving, ...unsigned].map((view) => ({ view, change, cause }));
    return { ...toPlan(changes, [], nowMs), ended: [issuanceId] };
  };
}

/** What ends with a card whose last day was moved to earlier: what outlives it, and the phones on it. */
export function planShortened(policy: Policy, mediumId: string, nowMs: number) {
  return (views: readonly CertificateView[], facts: HolderFacts): Plan => {
    const cause = { event: 'card-ended', cascadedFrom: null, partOf: null };
    const change = { action: 'revoke', reason: 'cessationOfOperation', invalidityMs: null } as const;
    const changes = views
      .filter((view) => view.mediumId === mediumId && isLive(view, nowMs))
      .map((view) => ({ view, change, cause }));
    const reach: Reach = { cascade: 'whole', concerns: () => true, holds: () => true };
    return toPlan(withCascade(policy, changes, { views, facts, nowMs }, reach), [], nowMs);
  };
}
