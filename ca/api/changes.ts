import type { FastifyReply } from 'fastify';
import type { Consequence } from '../../core/model/plan.ts';
import { checkedPlan, type Manner } from '../../store/rules/policy/plan-hash.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type Act, plan, revoke } from '../revoke.ts';
import { type Exchange, writeOnce } from './answer.ts';
import { changed } from './present.ts';

/** Answers what an act does, or with `dryRun` what it would do. */
export async function change(
  ca: CertificateAuthority,
  { request, reply }: Exchange,
  act: Act,
): Promise<FastifyReply> {
  const manner = request.body as Manner;
  if (manner.dryRun) return reply.code(200).send(changed(ca, true, await plan(ca, act, manner)));
  const show = (consequence: Consequence) => changed(ca, false, checkedPlan(manner, consequence));
  return writeOnce(ca, { request, reply }, show, (command) => revoke(ca, act, command));
}
