import { ApprovalNeeded } from '../../core/model/approval.ts';
import { type Applet, noFacts, type ReportedEvent } from '../../core/model/holder-life.ts';
import type { Consequence, Plan, Target } from '../../core/model/plan.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { ChangeCommand, ChangeOutcome } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { RuleContext } from '../engine/rule.ts';
import { confirmIssuance, endIssuance } from './activation.ts';
import { useChallenge } from './challenges.ts';
import {
  applyStatuses,
  certificatesOf,
  consequenceOf,
  holderOf,
  isRelease,
  notFound,
  targetHolder,
} from './change.ts';
import { countDeskAct, reaches, settleHolder } from './desks.ts';
import { factsOf } from './facts.ts';
import { isKnownHolder } from './holders.ts';
import { recordReport, refuseReported } from './life-events.ts';
import { notifySuccession } from './links.ts';
import { moveLastDay } from './moved-days.ts';
import { sealedOutcome } from './once.ts';
import { refuseDeliveryOfRevoked } from './policy/arrival-plan.ts';
import { evaluate } from './policy/evaluate.ts';
import { checkedPlan } from './policy/plan-hash.ts';
import { dropRequest, openRequest, storeOutcome } from './requests.ts';
import { countRevocation } from './revocations-alone.ts';
import { changeStanding, standingOf, writeStanding } from './standing.ts';
import { passSwitch } from './switches.ts';
import { statusOf } from './views.ts';

// What one act does to a holder: to certificates, to whether anything is issued, to what awaits its delivery.

/** Works the plan out on what is on record of the holder in this transaction. */
export function planned(
  reader: RecordReader,
  command: Pick<ChangeCommand, 'target' | 'plan' | 'report' | 'mandate'>,
  { nowMs, policy }: RuleContext,
): Consequence {
  const { target, report } = command;
  refuseOutOfReach(reader, command, nowMs);
  if (report?.opensHolder && target.type === 'holder' && !isKnownHolder(reader, target.holderId))
    return consequenceOf(evaluate(policy, command.plan, { views: [], nowMs }), [], nowMs);
  const holderId = holderOf(reader, target);
  const facts = holderId === null ? noFacts : factsOf(reader, holderId);
  const views = certificatesOf(reader, target);
  refuseDeliveryOfRevoked(policy, command.plan, { views, facts, nowMs });
  const plan = evaluate(policy, command.plan, { views, facts, nowMs });
  const consequence = consequenceOf(plan, views, nowMs);
  // A standing that cannot become what the event says refuses the dry run as it refuses the act.
  if (consequence.standing && holderId !== null)
    changeStanding(standingOf(reader, holderId), consequence.standing, saidBy(report, nowMs));
  return consequence;
}

/** Writes all that a plan says, with events, causes and orders. */
export function applyPlan(
  tx: Transaction,
  consequence: Consequence,
  by: {
    readonly target: Target;
    /** null where no event was reported. */
    readonly report: Pick<ReportedEvent, 'event' | 'occurredMs'> | null;
    readonly actor: ChangeCommand['actor'];
    readonly nowMs: number;
  },
): void {
  const { actor, nowMs } = by;
  applyStatuses(tx, { ...consequence, actor, nowMs });
  for (const { issuanceId, replaced } of consequence.confirmed ?? [])
    confirmIssuance(tx, issuanceId, replaced, nowMs);
  for (const { issuanceId } of consequence.confirmed ?? [])
    for (const row of tx.find('certificate', { issuanceId }))
      if (statusOf(tx, row).state === 'good') notifySuccession(tx, row, nowMs);
  for (const issuanceId of consequence.ended ?? []) endIssuance(tx, issuanceId);
  if (consequence.lastDay) moveLastDay(tx, consequence.lastDay, nowMs);
  if (!consequence.standing) return;
  const holderId = holderOf(tx, by.target);
  if (holderId === null) return;
  const before = standingOf(tx, holderId);
  const standing = changeStanding(before, consequence.standing, saidBy(by.report, nowMs));
  writeStanding(tx, holderId, standing, nowMs);
}

/**
 * Carries out one act of a caller, once. Where releases are closed all but the releases happens, nothing is answered, and
 * the refusal is returned: the caller repeats the act when releases are open.
 */
export function changeHolder(
  tx: Transaction,
  command: ChangeCommand,
  context: RuleContext,
): ChangeOutcome | PkiError {
  const { nowMs, decidedMs } = context;
  const { scope, actor, target, challengeHash, report } = command;
  openRequest(tx, scope, nowMs);
  if (challengeHash) useChallenge(tx, challengeHash, { scope, usedBy: actor.requestId, nowMs });
  if (report) refuseReported(tx, scope.client, report);
  if (report?.opensHolder && target.type === 'holder' && !isKnownHolder(tx, target.holderId))
    tx.insert('holder', { holderId: target.holderId, createdMs: nowMs });
  const consequence = checkedPlan(command, planned(tx, command, context));
  if (command.mandate?.approvalsWanted.includes('release') && consequence.changes.some(isRelease))
    throw new ApprovalNeeded('release');
  countRevocation(tx, consequence, { client: scope.client, max: command.mandate?.revocationsMax }, nowMs);
  const outcome = { ...consequence, knownByMs: decidedMs + command.knownAfterMs };
  const sealed = sealedOutcome(scope, outcome, context);
  const by = { target, report: report ?? null, actor, nowMs };
  const refusal = releaseRefusal(tx, consequence, nowMs);
  if (refusal) {
    const others = withoutReleases(consequence);
    if (others.changes.length === 0) throw refusal;
    applyPlan(tx, others, by);
    dropRequest(tx, scope);
    return refusal;
  }
  applyPlan(tx, consequence, by);
  if (command.applet) recordApplet(tx, command.applet, nowMs);
  const holderId = holderOf(tx, target);
  const { municipality, mandate } = command;
  // What takes trust away is never too much.
  if (mandate?.desk?.function === 'release') countDeskAct(tx, mandate, nowMs);
  if (municipality != null && holderId !== null)
    settleHolder(tx, holderId, municipality, { merged: mandate?.merged ?? {}, nowMs });
  if (report && holderId !== null)
    recordReport(tx, report, { holderId, scope, actor, issuanceId: null, outcome: sealed, nowMs });
  storeOutcome(tx, scope, sealed);
  return outcome;
}

/** To a caller that does not act for a holder's municipality there is no such holder, nor anything of the holder's. */
function refuseOutOfReach(
  reader: RecordReader,
  { target, mandate }: Pick<ChangeCommand, 'target' | 'mandate'>,
  nowMs: number,
): void {
  const holderId = targetHolder(reader, target);
  if (!reaches(reader, mandate, holderId, nowMs)) throw notFound(target);
}

/** What the TSM says last of an instance holds. */
function recordApplet(tx: Transaction, applet: Applet, nowMs: number): void {
  const row = { ...applet, recordedMs: nowMs };
  const before = tx.get('applet', applet);
  if (before) tx.update('applet', row, before);
  else tx.insert('applet', row);
}

function withoutReleases(consequence: Consequence): Consequence {
  return { ...consequence, changes: consequence.changes.filter((change) => !isRelease(change)) };
}

function releaseRefusal(tx: Transaction, { changes }: Consequence, nowMs: number): PkiError | undefined {
  if (!changes.some(isRelease)) return undefined;
  try {
    passSwitch(tx, 'release', nowMs);
    return undefined;
  } catch (error) {
    if (error instanceof PkiError && error.code === 'function-closed') return error;
    throw error;
  }
}

const saidBy = (
  report: Pick<ReportedEvent, 'event' | 'occurredMs'> | null | undefined,
  nowMs: number,
): { event: string; occurredMs: number } => ({
  event: report?.event ?? 'certificate',
  occurredMs: report?.occurredMs ?? nowMs,
});

/** A plan that changes nothing. */
export const emptyPlan: Plan = { changes: [], orders: [], reissue: [] };
