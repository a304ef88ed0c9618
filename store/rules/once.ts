import type { RequestScope, StoredReply } from '../../core/model/act.ts';
import { encodeOutcome, type OperatorCommand, type OutcomeScope, outcomeContext } from '../api/outcome.ts';
import { byKey, exclusive, type Load, type Lock, type Rule, type RuleContext } from '../engine/rule.ts';
import { openRequest, storeReply } from './requests.ts';

export const requestLock = ({ client, route, idempotencyKey }: OutcomeScope): Lock =>
  exclusive('request', client, route, idempotencyKey);

export const requestLoad = ({ client, route, idempotencyKey }: OutcomeScope): Load =>
  byKey('request', { client, route, idempotencyKey });

/** An outcome as a request keeps it. */
export const replyOf = (scope: RequestScope, outcome: unknown, { seal }: RuleContext): StoredReply => ({
  status: null,
  body: seal(outcomeContext(scope), encodeOutcome(outcome)),
});

/** A rule that happens once, however often its request comes, and leaves its outcome: see `openRequest`. */
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
      storeReply(tx, scope, replyOf(scope, outcome, context));
      return outcome;
    },
  };
}
