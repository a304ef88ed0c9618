import { addMonths, dateInJapan, endOfDayInJapan } from '../core/calendar.ts';
import type { CertificateView, Succession, SuccessionPlanner } from '../core/certificate-store.ts';
import type { Config } from '../core/config.ts';
import { durationMs } from '../core/config.ts';
import { PkiError } from '../core/errors.ts';
import { isLive, planEvent, ruleOf } from './policy.ts';

/** What an issuance does to the certificates whose place it takes, by the policy table. */
export const successionPlanner =
  ({ policy }: Pick<Config, 'policy'>, nowMs: number): SuccessionPlanner =>
  (event, target, issuanceId) =>
    planEvent(policy, event, target, nowMs, `issuance:${issuanceId}`);

/** An event that comes with an issuance; `bad-request` where the table has nothing issued anew for it. */
export function successionOf(
  { policy, renewal }: Pick<Config, 'policy' | 'renewal'>,
  { event, target }: Pick<Succession, 'event' | 'target'>,
): Omit<Succession, 'plan'> & { readonly isRenewal: boolean } {
  const rule = ruleOf(policy, event, target);
  if (rule.reissue.length === 0)
    throw new PkiError('bad-request', `event: nothing is issued anew for ${event}`);
  // Who moved must not go on signing with the old address; who renews may need both for a while.
  const overlapMs = rule.renewal && renewal.overlap ? durationMs(renewal.overlap) : 0;
  return { event, target, overlapMs, isRenewal: rule.renewal };
}

/** From when on certificates may be renewed: so many months before their last day, in Japan. */
export function renewalOpensMs({ renewal }: Pick<Config, 'renewal'>, notAfterMs: number): number {
  return endOfDayInJapan(addMonths(dateInJapan(notAfterMs), -renewal.windowMonths));
}

/** Refuses with `not-due` a renewal that is too early, or of nothing that is in force. */
export function checkDue(
  config: Pick<Config, 'renewal'>,
  views: readonly CertificateView[],
  nowMs: number,
): void {
  const ends = views.filter((view) => isLive(view, nowMs)).map(({ notAfterMs }) => notAfterMs);
  if (ends.length === 0) throw new PkiError('not-due', 'nothing is in force that could be renewed');
  // What was renewed, and lives on for its overlap, does not open the window of its successor.
  const opensMs = Math.max(...ends.map((ms) => renewalOpensMs(config, ms)));
  if (nowMs < opensMs) throw new PkiError('not-due', `renewal opens at ${new Date(opensMs).toISOString()}`);
}
