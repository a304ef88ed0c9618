import type { FastifyReply } from 'fastify';
import { type ApprovalAct, ApprovalNeeded } from '../../core/model/approval.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { ChangeOutcome } from '../../store/api/certificate-store.ts';
import type { OperatorCommand } from '../../store/api/outcome.ts';
import type { Manner } from '../../store/rules/policy/plan-hash.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type Act, holdInstead, plan, revoke } from '../revoke.ts';
import { type Exchange, once, type Presentation, writeOnce } from './answer.ts';
import { type Caller, callerOf } from './caller.ts';
import { changed, planned } from './present.ts';
import { noteTarget } from './readings.ts';

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
  if (dryRun) {
    const act = await readAct();
    await noteTarget(ca, caller, act.target);
    return reply.code(200).send(planned(ca, await plan(ca, act, { planHash })));
  }
  return writeOnce(ca, { request, reply }, changePresentation(ca), async (command) => {
    const act = await readAct();
    if (approval && caller.approval === null && wantedApprovals(ca).includes(approval)) {
      await noteTarget(ca, caller, act.target);
      throw new ApprovalNeeded(approval, planned(ca, await plan(ca, act, { planHash })));
    }
    // What was approved is what counts, also where the record has moved since the caller looked.
    const seen = caller.approval ? caller.approval.planHash : planHash;
    return heldUntilApproved(
      ca,
      command,
      () => act,
      () => revoke(ca, { ...act, planHash: seen }, command).catch(noted(ca, caller, act)),
    );
  });
}

/** Notes a look-up where a refusal tells that there is such a holder, and what is not the plan; rejects with it. */
const noted =
  (ca: CertificateAuthority, caller: Caller, { target }: Act) =>
  async (error: unknown): Promise<never> => {
    if (error instanceof PkiError && error.code === 'plan-changed') await noteTarget(ca, caller, target);
    throw error;
  };

/**
 * Has what a client may not revoke alone any more held at once. Throws the `ApprovalNeeded` of the act: a request that is repeated holds
 * once, and is proposed.
 */
export async function heldUntilApproved<Outcome>(
  ca: CertificateAuthority,
  command: OperatorCommand,
  readAct: () => Act | Promise<Act>,
  carryOut: () => Promise<Outcome>,
): Promise<Outcome> {
  try {
    return await carryOut();
  } catch (error) {
    if (!(error instanceof ApprovalNeeded) || error.act !== 'mass-revocation') throw error;
    // No client can send a key with a space.
    const scope = { ...command.scope, idempotencyKey: `${command.scope.idempotencyKey} held` };
    const act = await readAct();
    await once(ca, scope, changePresentation(ca), () => holdInstead(ca, act, { ...command, scope }));
    throw error;
  }
}
