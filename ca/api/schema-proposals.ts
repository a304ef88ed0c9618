import { Type } from 'typebox';
import { approvalActs } from '../../core/model/approval.ts';
import { closed, instant, nullable } from './schema-values.ts';

// What waits for a second person.

export const proposalStates = ['proposed', 'approved', 'done', 'failed', 'withdrawn', 'expired'] as const;

export const Proposal = Type.Object({
  proposalId: Type.String(),
  act: Type.Enum(Object.keys(approvalActs)),
  plan: Type.Unsafe<object>({
    type: 'object',
    additionalProperties: true,
    description: 'what the request is for; without keys, and what is personal',
  }),
  planHash: Type.String({ description: 'of plan and request: what is approved' }),
  state: Type.Enum(proposalStates),
  role: Type.String({ description: 'in which it was proposed; who approves has it, too' }),
  deskCode: nullable(Type.String({ description: 'the desk that it is for; who approves acts for it, too' })),
  municipalities: Type.Array(Type.String()),
  proposedBy: Type.String({ description: 'clientId' }),
  proposedAt: instant('when it was proposed'),
  expiresAt: instant('when it can no longer be approved'),
  approvedBy: nullable(Type.String({ description: 'clientId' })),
  approvedAt: nullable(instant('when it was approved')),
  withdrawnBy: nullable(
    Type.String({ description: 'clientId of who withdrew it, or wants to, and waits for a second' }),
  ),
  settledAt: nullable(instant('when it was carried out, or withdrawn')),
  refusal: nullable(
    Type.Object({ code: Type.String(), detail: Type.String() }, { description: 'why it was refused then' }),
  ),
  status: nullable(
    Type.Integer({ description: 'the HTTP status with which it was carried out, or refused' }),
  ),
});

export const ApproveProposal = Type.Object(
  { planHash: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'of the plan that was seen' }) },
  closed,
);

const approvalsMax = 500;

export const ApproveProposals = Type.Object(
  {
    proposals: Type.Array(
      Type.Object(
        {
          proposalId: Type.String({ pattern: '^[0-9a-f-]{36}$' }),
          planHash: ApproveProposal.properties.planHash,
        },
        closed,
      ),
      { minItems: 1, maxItems: approvalsMax, description: 'each with the plan that was looked at' },
    ),
  },
  closed,
);

export const ApprovedProposals = Type.Object({
  approved: Type.Array(Type.String(), { description: 'proposalIds; they are being carried out' }),
  refused: Type.Array(
    Type.Object({ proposalId: Type.String(), title: Type.String(), detail: Type.String() }),
    { description: 'those that are approved already, expired, withdrawn, changed, or the caller’s own' },
  ),
});
