import type { Consequence } from '../../../core/model/plan.ts';
import type { RecordedStatus } from '../../../core/model/revocation.ts';
import { digest, hex } from '../../../core/runtime/bytes.ts';
import { PkiError } from '../../../core/runtime/errors.ts';

// A caller sees a plan by a dry run, and has it carried out by its hash: or not at all, where the record has moved.

/** SHA-256 of all that a plan does, without the times at which it would: the same until the record moves. */
export function planHash(consequence: Consequence): string {
  const { changes, orders, reissue, standing, confirmed, ended, lastDay } = consequence;
  const timeless = ({ state, reason, invalidityMs, heldBy }: RecordedStatus) => [
    state,
    reason,
    invalidityMs,
    heldBy,
  ];
  const done = changes.map(({ authority, epoch, position, from, to, cause: { event, cascadedFrom } }) => [
    [authority, epoch, position],
    timeless(from),
    timeless(to),
    [event, cascadedFrom],
  ]);
  return hex(
    digest(
      'sha256',
      Buffer.from(JSON.stringify([done, orders, reissue, standing, confirmed, ended, lastDay])),
    ),
  );
}

/** What a caller may say of how an act is to be carried out. */
export interface Manner {
  /** Answer the plan, act on nothing. */
  readonly dryRun?: boolean;
  /** Act only if the plan is still this one. */
  readonly planHash?: string | undefined;
}

/** Refuses with `plan-changed` a consequence that is not the one the caller has seen. */
export function checkedPlan(
  { planHash: wanted }: Pick<Manner, 'planHash'>,
  consequence: Consequence,
): Consequence {
  if (wanted === undefined || planHash(consequence) === wanted) return consequence;
  throw new PkiError(
    'plan-changed',
    'planHash: what would be done is no longer what that plan says; ask for a new dry run',
  );
}
