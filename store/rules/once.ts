import type { RequestScope, Sealed } from '../../core/model/act.ts';
import { encodeOutcome, type OperatorCommand, type OutcomeScope, outcomeContext } from '../api/outcome.ts';
import { byKey, exclusive, type Load, type Lock, type Rule, type RuleContext } from '../engine/rule.ts';
import { openRequest, storeOutcome } from './requests.ts';

export const requestLock = ({ client, route, idempotencyKey }: OutcomeScope): Lock =>
  exclusive('request', client, route, idempotencyKey);

export const requestLoad = ({ client, route, idempotencyKey }: OutcomeScope): Load =>
  byKey('request', { client, route, idempotencyKey });

/** Seals an outcome for its request. */
export const sealedOutcome = (scope: RequestScope, outcome: unknown, { seal }: RuleContext): Sealed =>
  seal(outcomeContext(scope), encodeOutcome(outcome));

/** A rule that is executed once, however often its request is sent, and stores its outcome: see `openRequest`. */
export function answeredOnce<Input extends OperatorCommand, Outcome>(
  rule: Rule<Input, Outcome>,
): Rule<Input, Outcome> {
  return {
    ...rule,
    actor: ({ actor }) => actor,
    locks: (input, ...at) => [requestLock(input.scope), ...rule.locks(input, ...at)],
    loads: (input, ...at) => [requestLoad(input.scope), ...rule.loads(input, ...at)],
    decide: (input, tx, context) => {
      const { scope } = input;
      openRequest(tx, scope, context.nowMs);
      const outcome = rule.decide(input, tx, context);
      storeOutcome(tx, scope, sealedOutcome(scope, outcome, context));
      return outcome;
    },
  };
}
