import { actorOfNode } from '../../core/model/act.ts';
import { type CertificateId, keyOf, sameKey } from '../../core/model/certificate-id.ts';
import { type HolderKind, slotOf } from '../../core/model/kinds.ts';
import type { Consequence } from '../../core/model/plan.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  Actor,
  CertificateView,
  ChangeCommand,
  ReserveCommand,
  Succession,
} from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { RuleContext } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { certificatesOf, consequenceOf } from './change.ts';
import { factsOf } from './facts.ts';
import { applyPlan, planned } from './holder-change.ts';
import { recordReport, refuseReported, reportIds } from './life-events.ts';
import { evaluate } from './policy/evaluate.ts';
import { refuseLateCorrection } from './policy/event-plan.ts';
import { checkedPlan } from './policy/plan-hash.ts';
import { refuseEarlyRenewal } from './policy/renewal-window.ts';
import { replacedIn } from './replaced.ts';
import { statusOf } from './views.ts';

// An issuance may take the place of certificates: what happens to those happens as it is completed, or as its delivery is
// confirmed, in one transaction, so that a holder is never without, and an issuance that fails leaves the old ones as they
// are. What it takes the place of may itself not have arrived: that was never good, ends at once, and leaves its own
// predecessors to the new one.

/** What an issuance would end, as it is now; throws where it may not. null where it takes the place of nothing. */
export function examineSuccession(
  reader: RecordReader,
  {
    issuanceId,
    succession,
    medium,
    scope,
  }: Pick<ReserveCommand, 'issuanceId' | 'succession' | 'medium' | 'scope'>,
  owned: readonly CertificateView[],
  { nowMs, policy }: RuleContext,
): Consequence | null {
  if (!succession) return null;
  const { target, report } = succession;
  const { holderId } = medium;
  if (target.type === 'medium') {
    const replaced = reader.get('medium', { mediumId: target.mediumId });
    // One answer for what there is not and for what another holder has.
    if (replaced?.holderId !== holderId)
      throw new PkiError('not-found', 'the holder has no such card or phone to take the place of');
  }
  if (report) refuseReported(reader, scope.client, report);
  const facts = factsOf(reader, holderId);
  refuseEarlyRenewal(succession, { certificates: owned, facts, nowMs });
  refuseLateCorrection(policy, succession, facts);
  const { event, slots, occurredMs } = succession;
  const request = { type: 'event', event, target, occasion: { issuanceId, slots, occurredMs } } as const;
  const plan = evaluate(policy, request, { views: owned, facts, nowMs });
  return checkedPlan(succession, consequenceOf(plan, owned, nowMs));
}

/** Writes down what an issuance succeeds, and the event that it comes with. */
export function openSuccession(
  tx: Transaction,
  { issuanceId, succession, medium, scope, actor, arrival }: ReserveCommand,
  nowMs: number,
): void {
  if (!succession) return;
  const { event, target, overlapMs, report } = succession;
  const { holderId, mediumId } = medium;
  tx.insert('succession', {
    issuanceId,
    event,
    mediumId: target.type === 'medium' ? target.mediumId : null,
    holderId,
    overlapMs,
    dueMs: null,
    replaced: null,
  });
  if (!report) return;
  const by = { holderId, scope, actor, issuanceId, outcome: null, nowMs };
  recordReport(tx, report, by);
  // Handed over as it is issued: that is its delivery.
  if (arrival?.handedOver)
    recordReport(tx, { ...report, event: arrival.handedOver, mediumId, eventId: null }, by);
}

interface Succeeding extends RuleContext {
  readonly issuanceId: string;
  readonly actor: Actor;
}

/** What an issuance that is completed does to its predecessors. Gives those whose place it takes, now or later. */
export function succeed(tx: Transaction, act: Succeeding, isAwaited: boolean): readonly CertificateId[] {
  const row = tx.get('succession', { issuanceId: act.issuanceId });
  if (!row) return [];
  const isOther = (view: CertificateView): boolean => view.issuanceId !== act.issuanceId;
  const consequence = consequenceFor(tx, row, act, isOther);
  const lost = successionsThatEnd(tx, row, consequence);
  if (!isAwaited && row.overlapMs === 0) {
    apply(tx, row, consequence, act);
    const more: CertificateId[] = [];
    for (const other of lost) {
      const inherited = consequenceFor(tx, other, act, isOther);
      apply(tx, other, inherited, act);
      more.push(...inherited.changes.map(keyOf));
    }
    const replaced = [...consequence.changes.map(keyOf), ...more];
    tx.update('succession', { ...row, replaced: JSON.stringify(replaced) }, row);
    return replaced;
  }
  // What never arrived was never good: it ends now, and its own predecessors are left to this issuance.
  const { now, later } = parted(consequence, kindsOf(tx, act.issuanceId));
  apply(tx, row, now, act);
  const [heritage] = lost;
  const heir = heritage
    ? { ...row, event: heritage.event, mediumId: heritage.mediumId, overlapMs: heritage.overlapMs }
    : row;
  const waiting = heritage ? consequenceFor(tx, heir, act, isOther).changes : later;
  const replaced = waiting.map(keyOf);
  const dueMs = isAwaited ? null : act.nowMs + row.overlapMs;
  tx.update('succession', { ...heir, dueMs, replaced: JSON.stringify(replaced) }, row);
  return replaced;
}

function kindsOf(tx: Transaction, issuanceId: string): readonly string[] {
  return tx.find('certificate', { issuanceId }).map(({ kind }) => kind);
}

/** What of a consequence is about certificates of some kinds that never arrived, and the rest. */
function parted(
  consequence: Consequence,
  kinds: readonly string[],
): { now: Consequence; later: Consequence['changes'] } {
  const isLost = ({ from, kind }: Consequence['changes'][number]): boolean =>
    from.heldBy.includes('not-delivered') && kinds.includes(kind);
  const changes = consequence.changes.filter(isLost);
  const orders = consequence.orders.filter((order) => changes.some((change) => sameKey(change, order)));
  const later = consequence.changes.filter((change) => !isLost(change));
  return { now: { changes, orders, reissue: [] }, later };
}

/** Successions of what has not arrived on the medium that is replaced, all of which ends. */
function successionsThatEnd(
  tx: Transaction,
  row: Row<'succession'>,
  { changes }: Consequence,
): readonly Row<'succession'>[] {
  const { awaited } = factsOf(tx, row.holderId);
  const ending: Row<'succession'>[] = [];
  for (const { issuanceId, mediumId } of awaited) {
    if (issuanceId === row.issuanceId || mediumId !== row.mediumId) continue;
    const certificates = tx.find('certificate', { issuanceId });
    const ends = (each: Row<'certificate'>): boolean =>
      statusOf(tx, each).state === 'revoked' ||
      changes.some((change) => sameKey(change, each) && change.to.state === 'revoked');
    const succession = tx.get('succession', { issuanceId });
    if (succession && certificates.every(ends)) ending.push(succession);
  }
  return ending;
}

/**
 * Ends the predecessors of one issuance, and what rests on them by now; nothing that was issued since, and nothing in a slot
 * in which the successor itself has ended.
 */
export function endPredecessors(tx: Transaction, act: Succeeding): void {
  const row = tx.get('succession', { issuanceId: act.issuanceId });
  if (row?.dueMs == null || row.dueMs >= act.nowMs) return;
  const predecessors = replacedIn(row.replaced).ending;
  const isPredecessor = (key: CertificateId): boolean => predecessors.some((one) => sameKey(one, key));
  const consequence = consequenceFor(
    tx,
    row,
    act,
    (view) => isPredecessor(view) || (view.restsOn !== null && isPredecessor(view.restsOn)),
    'living',
  );
  apply(tx, row, consequence, act);
  // What it was answered with stays what it is answered with.
  tx.update('succession', { ...row, dueMs: null }, row);
}

/** An issuance that failed took the place of nothing, and its event has not happened. */
export function forgetSuccession(tx: Transaction, issuanceId: string): void {
  if (tx.get('activation', { issuanceId })) tx.remove('activation', { issuanceId });
  for (const entryId of reportIds(issuanceId))
    if (tx.get('lifeEvent', { entryId })) tx.remove('lifeEvent', { entryId });
}

/** Carries out a plan of the service itself. */
export function carryOut(
  tx: Transaction,
  { target, plan }: Pick<ChangeCommand, 'target' | 'plan'>,
  context: RuleContext,
): void {
  const consequence = planned(tx, { target, plan }, context);
  const actor = actorOfNode(tx.writer);
  applyPlan(tx, consequence, { target, report: null, actor, nowMs: context.nowMs });
}

const targetOf = ({ mediumId, holderId }: Row<'succession'>): Succession['target'] =>
  mediumId === null ? { type: 'holder', holderId } : { type: 'medium', mediumId };

function apply(
  tx: Transaction,
  row: Row<'succession'>,
  consequence: Consequence,
  { actor, nowMs }: Succeeding,
): void {
  const report = { event: row.event, occurredMs: null };
  applyPlan(tx, consequence, {
    target: { type: 'holder', holderId: row.holderId },
    report,
    actor,
    nowMs,
  });
}

/**
 * What the event of a succession does to some of the holder's certificates. `living`: only in slots in which the successor is
 * in force.
 */
function consequenceFor(
  tx: Transaction,
  row: Row<'succession'>,
  { issuanceId, policy, nowMs }: Succeeding,
  isMeant: (view: CertificateView) => boolean,
  successors: 'all' | 'living' = 'all',
): Consequence {
  const facts = factsOf(tx, row.holderId);
  const all = certificatesOf(tx, { type: 'holder', holderId: row.holderId });
  const isLiving = ({ state, notAfterMs }: CertificateView): boolean =>
    state !== 'revoked' && notAfterMs > nowMs;
  const slots = all
    .filter((view) => view.issuanceId === issuanceId && (successors === 'all' || isLiving(view)))
    .map(({ kind }) => slotOf(kind as HolderKind));
  const report = facts.events.find((each) => each.issuanceId === issuanceId && each.event === row.event);
  // As it was planned when it was reserved: without a stated time there is none.
  const occurredMs = report?.isStated ? report.occurredMs : null;
  const occasion = { issuanceId, slots, occurredMs };
  const request = { type: 'event', event: row.event, target: targetOf(row), occasion } as const;
  const meant = all.filter(
    (view) => isMeant(view) && (successors === 'all' || slots.includes(slotOf(view.kind as HolderKind))),
  );
  return consequenceOf(evaluate(policy, request, { views: meant, facts, nowMs }), meant, nowMs);
}

/** What is under way for a holder besides what certificates show. */
export interface UnderWay {
  /** Cards and phones that end with a completion, an arrival or an overlap: they do not count against a limit. */
  readonly ending: ReadonlySet<string>;
  /** Cards and phones that end as soon as what is being issued is complete. */
  readonly endingSoon: ReadonlySet<string>;
}

export function underWay(
  reader: RecordReader,
  holderId: string,
  certificates: readonly CertificateView[],
): UnderWay {
  const reserved = new Set(
    certificates.filter(({ state }) => state === 'reserved').map(({ issuanceId }) => issuanceId),
  );
  const awaited = new Set(
    reader
      .find('activation', { holderId })
      .filter(({ state }) => state === 'awaited')
      .map(({ issuanceId }) => issuanceId),
  );
  const [ending, endingSoon] = [new Set<string>(), new Set<string>()];
  for (const { issuanceId, mediumId, dueMs } of reader.find('succession', { holderId })) {
    if (mediumId === null) continue;
    if (reserved.has(issuanceId) && !awaited.has(issuanceId)) endingSoon.add(mediumId);
    if (dueMs !== null || reserved.has(issuanceId) || awaited.has(issuanceId)) ending.add(mediumId);
  }
  return { ending, endingSoon };
}

/** Successions that are looked through for the events they rest on. */
const pendingMax = 100_000;

/** Events of successions that are under way, or whose predecessors are yet to end. */
export function pendingEvents(reader: RecordReader): string[] {
  const due = reader.findDue('succession', Number.MAX_SAFE_INTEGER, pendingMax);
  const ids = [
    ...reader.find('reservation', {}),
    ...reader.findDue('activation', Number.MAX_SAFE_INTEGER, pendingMax),
  ].map(({ issuanceId }) => issuanceId);
  const waiting = ids.map((issuanceId) => reader.get('succession', { issuanceId }));
  return [...new Set([...due, ...waiting].flatMap((row) => (row ? [row.event] : [])))];
}
