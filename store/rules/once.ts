import type { RequestScope } from '../../core/model/act.ts';
import type { OperatorCommand } from '../api/operations-store.ts';
import { byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import { openRequest, storeReply } from './requests.ts';

export const requestLock = ({ client, route, idempotencyKey }: RequestScope): Lock =>
  exclusive('request', client, route, idempotencyKey);

export const requestLoad = ({ client, route, idempotencyKey }: RequestScope): Load =>
  byKey('request', { client, route, idempotencyKey });

/** A rule that happens once, however often its request comes, and leaves its answer: see `openRequest`. */
export function answeredOnce<Input extends OperatorCommand<Outcome>, Outcome>(
  rule: Rule<Input, Outcome>,
): Rule<Input, void> {
  return {
    ...rule,
    actor: ({ actor }) => actor,
    locks: (input, ...at) => [requestLock(input.scope), ...rule.locks(input, ...at)],
    loads: (input, ...at) => [requestLoad(input.scope), ...rule.loads(input, ...at)],
    decide: (input, tx, context) => {
      openRequest(tx, input.scope, context.nowMs);
      storeReply(tx, input.scope, input.reply(rule.decide(input, tx, context)));
    },
  };
}
