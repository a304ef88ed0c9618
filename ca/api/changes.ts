import type { FastifyReply } from 'fastify';
import type { Consequence } from '../../core/model/plan.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { ChangeCommand } from '../../store/api/certificate-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type Exchange, writeOnce } from './answer.ts';
import { changed, planHash } from './present.ts';

/** What a caller may say of how an act is to be carried out. */
export interface Manner {
  /** Answer the plan, act on nothing. */
  readonly dryRun?: boolean;
  /** Act only if the plan is still this one. */
  readonly planHash?: string;
}

/** Refuses with `plan-changed` a consequence that is not the one the caller has seen. */
export const planChecker =
  ({ planHash: wanted }: Manner) =>
  (consequence: Consequence): Consequence => {
    if (wanted === undefined || planHash(consequence) === wanted) return consequence;
    throw new PkiError(
      'plan-changed',
      'planHash: what would be done is no longer what that plan says; ask for a new dry run',
    );
  };

/** The story of ending something, from a checked request to its answer; the policy has made the plan's function. */
export async function change(
  ca: CertificateAuthority,
  { request, reply }: Exchange,
  act: Pick<ChangeCommand, 'target' | 'plan' | 'challengeHash' | 'report' | 'applet'>,
): Promise<FastifyReply> {
  const manner = request.body as Manner;
  const checked = planChecker(manner);
  if (manner.dryRun) {
    const consequence = checked(await ca.store.preview(act));
    return reply.code(200).send(changed(ca, true, consequence));
  }
  const show = (consequence: Consequence) => changed(ca, false, checked(consequence));
  return writeOnce(ca, { request, reply }, show, (command) => ca.store.change({ ...act, ...command }));
}
