import type { FastifyReply } from 'fastify';
import { type ApprovalAct, ApprovalNeeded } from '../../core/model/approval.ts';
import type { ChangeOutcome } from '../../store/api/certificate-store.ts';
import type { Manner } from '../../store/rules/policy/plan-hash.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type Act, plan, revoke } from '../revoke.ts';
import { type Exchange, type Presentation, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { changed, planned } from './present.ts';

/** How what an act did is answered. */
export const changePresentation = (ca: CertificateAuthority): Presentation<ChangeOutcome> => ({
  show: (outcome) => changed(ca, outcome),
});

/**
 * Answers what an act does, or with `dryRun` what it would do. `readAct` is called where the request is not a repetition. Throws
 * `ApprovalNeeded` where a second person has to approve `approval`.
 */
export async function change(
  ca: CertificateAuthority,
  { request, reply }: Exchange,
  readAct: () => Act | Promise<Act>,
  approval?: ApprovalAct,
): Promise<FastifyReply> {
  const { dryRun, planHash } = request.body as Manner;
  const caller = callerOf(request);
  if (dryRun) return reply.code(200).send(planned(ca, await plan(ca, await readAct(), { planHash })));
  return writeOnce(ca, { request, reply }, changePresentation(ca), async (command) => {
    const act = await readAct();
    if (approval && caller.approval === null && wantedApprovals(ca).includes(approval))
      throw new ApprovalNeeded(approval, planned(ca, await plan(ca, act, { planHash })));
    const seen = caller.approval?.planHash ?? planHash;
    return revoke(ca, { ...act, planHash: seen }, command);
  });
}
