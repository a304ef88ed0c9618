import { durationMs } from '../../core/config/duration.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Succession } from '../../store/api/certificate-store.ts';
import { ruleOf } from '../../store/rules/policy/event-plan.ts';
import type { Config } from '../config/config.ts';

/** An event that comes with an issuance; `bad-request` if the table has nothing reissued for it. */
export function successionOf(
  { policy, renewal }: Pick<Config, 'policy' | 'renewal'>,
  { event, target }: Pick<Succession, 'event' | 'target'>,
): Pick<Succession, 'event' | 'target' | 'overlapMs'> & { readonly isRenewal: boolean } {
  const rule = ruleOf(policy, event, target);
  if (rule.reissue.length === 0) throw new PkiError('bad-request', `event: nothing is reissued for ${event}`);
  // Who moved must not go on signing with the old address; who renews may need both for a while.
  const overlapMs = rule.renewal && renewal.overlap ? durationMs(renewal.overlap) : 0;
  return { event, target, overlapMs, isRenewal: rule.renewal };
}
