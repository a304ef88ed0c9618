import { durationMs } from '../core/config/duration.ts';
import { endOfDayInJapan } from '../core/model/calendar.ts';
import type { CertificateId } from '../core/model/certificate-id.ts';
import type { Consequence, Target } from '../core/model/plan.ts';
import type { HoldSource, StatusChange } from '../core/model/revocation.ts';
import type { Bytes } from '../core/runtime/bytes.ts';
import { PkiError } from '../core/runtime/errors.ts';
import type { ChangeCommand, ChangeOutcome } from '../store/api/certificate-store.ts';
import type { OperatorCommand } from '../store/api/outcome.ts';
import type { ReleaseRequest } from '../store/api/plan-request.ts';
import { ruleOf } from '../store/rules/policy/event-plan.ts';
import { checkedPlan, type Manner } from '../store/rules/policy/plan-hash.ts';
import { checkMovedDay } from './issue/card.ts';
import type { CertificateAuthority } from './issue/certificate-authority.ts';
import { checkHolderId } from './request/holder-id.ts';
import { occurredMs } from './request/occurrence.ts';
import { townOf } from './request/towns.ts';

// The story of revoking, holding and releasing: a report or a single change is read (`eventAct`, `certificateAct`), the policy table plans
// what follows on all that the holder has (`plan`), and one transaction writes all of it (`revoke`), which resolves when every
// follower in this process knows.

/** A life event as its caller reports it. */
export interface EventReport {
  readonly event: string;
  /** Exactly one of the three says what it happened to. */
  readonly holderId?: string;
  readonly cardId?: string;
  readonly deviceId?: string;
  /** The caller's name for it. */
  readonly eventId?: string;
  /** RFC 3339. */
  readonly occurredAt?: string;
  /** `YYYY-MM-DD`, where the event moves a card's last day. */
  readonly cardExpiresOn?: string;
  /** Where the holder moved to. */
  readonly municipalityCode?: string;
}

/** What is to be done to a holder's certificates: on what, by which plan, and what was reported. */
export type Act = Pick<
  ChangeCommand,
  'target' | 'plan' | 'planHash' | 'challengeHash' | 'report' | 'applet' | 'mandate' | 'municipality'
>;

/** What reporting an event does. Throws `bad-request` where the table has no such event for what it is reported of. */
export function eventAct(ca: CertificateAuthority, report: EventReport, contentHash: Bytes): Act {
  const { policy } = ca.config;
  const nowMs = ca.clock.wallMs();
  const target = eventTarget(report);
  const occurred = occurredMs(report.occurredAt, nowMs);
  const lastDayMs = movedDay(ca, report, target, nowMs);
  const { standing, town } = ruleOf(policy, report.event, target);
  const { municipalityCode } = report;
  if (municipalityCode !== undefined && town !== 'moves')
    throw new PkiError('bad-request', `municipalityCode: ${report.event} moves no holder`);
  // It may be reported of a child who is not on record yet.
  const opensHolder = standing === 'bars-signing';
  if (opensHolder && report.holderId !== undefined) checkHolderId(report.holderId);
  return {
    target,
    municipality: municipalityCode === undefined ? null : townOf(ca.config, municipalityCode).code,
    plan: { type: 'event', event: report.event, target, occasion: { occurredMs: occurred, lastDayMs } },
    report: {
      event: report.event,
      mediumId: target.type === 'medium' ? target.mediumId : null,
      eventId: report.eventId ?? null,
      contentHash,
      occurredMs: occurred,
      opensHolder,
    },
  };
}

/** What naming one certificate does. */
export function certificateAct(key: CertificateId, change: StatusChange | ReleaseRequest): Act {
  return { target: { type: 'certificate', key }, plan: { type: 'certificate', key, change } };
}

/** What an act would do now. Writes nothing. Throws `plan-changed` where the caller has seen another plan. */
export async function plan(ca: CertificateAuthority, act: Act, manner: Manner): Promise<Consequence> {
  return checkedPlan(manner, await ca.store.preview(act));
}

/** How long a transaction may take from its answer to the moment from which on its changes are known. */
const commitMs = 10_000;

/**
 * How long after a change some OCSP node may give an answer that was signed before it: nodes sign for `feedLagMax` after what they
 * know, and give what is signed for `signedAnswersFor` beyond that, as long as it holds; files for a static server are given
 * as long as they hold.
 */
export function knownAfterMs({ ocsp }: Pick<CertificateAuthority['config'], 'ocsp'>): number {
  const { feedLagMax, signedAnswersFor, responseValidity, presign } = ocsp;
  const validMs = durationMs(responseValidity);
  const givenMs = durationMs(feedLagMax) + durationMs(signedAnswersFor);
  const longestMs = presign.to === 'files' ? validMs : Math.min(givenMs, validMs);
  return commitMs + longestMs;
}

/**
 * Carries an act out, all of it or nothing, with its answer: every status, event, cause and order in one transaction. Resolves when
 * every follower in this process has applied it.
 */
export function revoke(ca: CertificateAuthority, act: Act, command: OperatorCommand): Promise<ChangeOutcome> {
  const desk = act.mandate?.desk?.code;
  const actor = desk === undefined ? command.actor : { ...command.actor, desk };
  return ca.store.change({ ...act, ...command, actor, knownAfterMs: knownAfterMs(ca.config) });
}

/** Holds at once what an act would revoke, while the revocation itself waits for a second person. */
export function holdInstead(
  ca: CertificateAuthority,
  { plan: of, target, mandate }: Pick<Act, 'plan' | 'target' | 'mandate'>,
  command: OperatorCommand,
): Promise<ChangeOutcome> {
  const by: HoldSource = `operator:${command.actor.client.slice(0, 16)}`;
  const alone = mandate ? { mandate: { ...mandate, revocationsMax: null } } : {};
  return revoke(ca, { target, plan: { type: 'held-instead', of, by }, ...alone }, command);
}

function eventTarget({ holderId, cardId, deviceId }: EventReport): Target {
  const named = [holderId, cardId, deviceId].filter((id) => id !== undefined);
  if (named.length !== 1)
    throw new PkiError('bad-request', 'exactly one of holderId, cardId and deviceId is wanted');
  if (holderId !== undefined) return { type: 'holder', holderId };
  return { type: 'medium', mediumId: cardId !== undefined ? `card:${cardId}` : `phone:${deviceId}` };
}

/** The card's new last moment, where the event is one by which it moves. */
function movedDay(
  { config }: CertificateAuthority,
  { event, cardExpiresOn }: EventReport,
  target: Target,
  nowMs: number,
): number | null {
  const { lastDay, reissue, renewal } = ruleOf(config.policy, event, target);
  // What is renewed is due, or not, as it is issued: reported by itself it would only end.
  if (renewal)
    throw new PkiError('bad-request', `event: ${event} comes with the new certificates, as they are issued`);
  if (lastDay !== 'moves') {
    if (cardExpiresOn === undefined) return null;
    throw new PkiError('bad-request', `cardExpiresOn: ${event} does not move a card’s last day`);
  }
  if (reissue.length > 0)
    throw new PkiError(
      'bad-request',
      `event: ${event} comes with the new certificates, to /card-certificates`,
    );
  if (cardExpiresOn === undefined)
    throw new PkiError('bad-request', `cardExpiresOn: ${event} brings the card’s new last day`);
  return endOfDayInJapan(checkMovedDay(cardExpiresOn, config.scheme, nowMs));
}
