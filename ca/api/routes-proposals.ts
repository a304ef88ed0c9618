import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Proposal as Recorded } from '../../store/api/proposal-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, once, problems, sendAnswered, writeOnce } from './answer.ts';
import type { Approvals } from './approvals.ts';
import { type Caller, callerOf, refuseSystem, scopeOf } from './caller.ts';
import { proposal as shown } from './present.ts';
import { noteReading } from './readings.ts';
import {
  ApprovedProposals,
  ApproveProposal,
  ApproveProposals,
  Proposal,
  proposalStates,
} from './schema-proposals.ts';

const config = { roles: ['administrator', 'issuer', 'revoker', 'reader'] } as const;
const pageMax = 100;
const noSuch = 'no such proposal';
const uuid = Type.String({ pattern: '^[0-9a-f-]{36}$' });

/** What waits for a second person: seen, approved and withdrawn by those who could ask for the same. */
export const proposalRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/proposals',
      {
        config,
        schema: {
          summary: 'Requests that wait for a second person, or did, in the caller’s roles',
          querystring: Type.Object(
            {
              state: Type.Optional(Type.Enum(proposalStates, { description: 'default: proposed' })),
              after: Type.Optional(uuid),
            },
            { additionalProperties: false },
          ),
          response: {
            200: Type.Object({
              proposals: Type.Array(Proposal),
              next: Type.Union([uuid, Type.Null()], {
                description: '`after` of the next page; null where there is none',
              }),
            }),
            ...problems,
          },
        },
      },
      async (request) => {
        const { state = 'proposed', after = null } = request.query;
        const found = await ca.proposals.list(state, after, pageMax);
        const next = found.length < pageMax ? null : (found.at(-1)?.proposalId ?? null);
        const caller = callerOf(request);
        noteShown(caller, found);
        return { proposals: found.filter((each) => maySee(caller, each)).map(shown), next };
      },
    );

    app.get(
      '/proposals/:proposalId',
      {
        config,
        schema: {
          summary: 'One of them',
          params: Type.Object({ proposalId: uuid }),
          response: { 200: Proposal, ...problems },
        },
      },
      async (request) => shown(await seenBy(ca, request, request.params.proposalId)),
    );
  };

/** What becomes of them. */
export const proposalDecisionRoutes =
  (
    ca: CertificateAuthority,
    _admissions: unknown,
    approvals: Pick<Approvals, 'resume'>,
  ): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/proposals/:proposalId/approval',
      {
        config,
        schema: {
          summary: 'Approve, as another person of the same rights, what was proposed: it is carried out',
          headers: IdempotencyHeaders,
          params: Type.Object({ proposalId: uuid }),
          body: ApproveProposal,
          response: { 200: Proposal, ...problems },
        },
      },
      async (request, reply) => {
        const { proposalId } = request.params;
        const { planHash } = request.body;
        await seenBy(ca, request, proposalId);
        refuseSystem(callerOf(request));
        const { actor } = callerOf(request);
        const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
        const answered = await once<Recorded, object>(ca, scope, { show: shown }, () =>
          ca.proposals.approve({ scope, actor, proposalId, planHash }),
        );
        await approvals.resume();
        return sendAnswered(reply, { ...answered, body: shown(await seenBy(ca, request, proposalId)) });
      },
    );

    app.post(
      '/proposal-approvals',
      {
        config,
        schema: {
          summary: 'Approve many at once, such as the revocations that one client may not do alone',
          headers: IdempotencyHeaders,
          body: ApproveProposals,
          response: { 200: ApprovedProposals, ...problems },
        },
      },
      async (request, reply) => {
        const { proposals: asked } = request.body;
        const caller = callerOf(request);
        const found = await Promise.all(asked.map(({ proposalId }) => ca.proposals.proposal(proposalId)));
        const isSeen = (i: number): boolean => maySee(caller, found[i]);
        const unknown = asked
          .filter((_, i) => !isSeen(i))
          .map(({ proposalId }) => ({ proposalId, title: 'not-found', detail: noSuch }) as const);
        const proposals = asked.filter((_, i) => isSeen(i));
        if (proposals.length > 0) refuseSystem(caller);
        return writeOnce(ca, { request, reply }, { show: shownApprovals }, async (command) => {
          const outcome = await ca.proposals.approveAll({ ...command, proposals, unknown });
          await approvals.resume();
          return outcome;
        });
      },
    );

    app.post(
      '/proposals/:proposalId/withdrawal',
      {
        config,
        schema: {
          summary: 'Withdraw what was proposed and not approved: its proposer alone, others by two persons',
          headers: IdempotencyHeaders,
          params: Type.Object({ proposalId: uuid }),
          response: { 200: Proposal, ...problems },
        },
      },
      async (request, reply) => {
        const { proposalId } = request.params;
        const { proposedBy } = await seenBy(ca, request, proposalId);
        const { actor } = callerOf(request);
        if (proposedBy !== actor.client) refuseSystem(callerOf(request));
        const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
        const answered = await once<Recorded, object>(ca, scope, { show: shown }, () =>
          ca.proposals.withdraw({ scope, actor, proposalId }),
        );
        return sendAnswered(reply, answered);
      },
    );
  };

const shownApprovals = ({
  approved,
  refused,
}: Awaited<ReturnType<CertificateAuthority['proposals']['approveAll']>>): Static<
  typeof ApprovedProposals
> => ({
  approved: [...approved],
  refused: [...refused],
});

/** A proposal that a caller may see. Throws `not-found`. */
async function seenBy(
  ca: CertificateAuthority,
  request: FastifyRequest,
  proposalId: string,
): Promise<Recorded> {
  const found = await ca.proposals.proposal(proposalId);
  if (!found || !maySee(callerOf(request), found)) throw new PkiError('not-found', noSuch);
  noteShown(callerOf(request), [found]);
  return found;
}

/** Counts the waiting proposals that a caller may see. It returns no plan, so no look-up of a holder is recorded. */
export async function waitingFor(ca: CertificateAuthority, caller: Caller): Promise<number> {
  let count = 0;
  for (let after: string | null = null; ; ) {
    const found: readonly Recorded[] = await ca.proposals.list('proposed', after, pageMax);
    count += found.filter((each) => maySee(caller, each)).length;
    after = found.at(-1)?.proposalId ?? null;
    if (found.length < pageMax || after === null) return count;
  }
}

/** Plans name holders: who sees them looks them up. */
function noteShown(caller: Caller, proposals: readonly Recorded[]): void {
  for (const proposal of proposals.filter((each) => maySee(caller, each))) {
    const { holderId } = JSON.parse(proposal.plan) as { holderId?: string };
    if (holderId !== undefined) noteReading(caller, holderId, true);
  }
}

/** Those see a proposal, and may approve it, who could ask for the same: in its role, at its desk, on those holders. */
function maySee(caller: Caller, proposal: Recorded | undefined): boolean {
  if (!proposal) return false;
  const { role, desk, municipalities, proposedBy } = proposal;
  if (caller.actor.client === proposedBy) return true;
  const has = (own: readonly string[], wanted: string): boolean => own.includes('*') || own.includes(wanted);
  if (!caller.roles.includes(role)) return false;
  if (desk !== null && !has(caller.desks, desk)) return false;
  const isOfHolders = role === 'revoker' || role === 'reader';
  return !isOfHolders || municipalities.every((code) => has(caller.municipalities, code));
}
