import { table } from './table.ts';

/** Requests that a second person approves before they are carried out. */
export const proposalTables = {
  proposal: table({
    columns: {
      proposalId: 'text',
      act: 'text',
      client: 'text',
      route: 'text',
      idempotencyKey: 'text',
      bodyHash: 'blob',
      url: 'text',
      /** The body, sealed; null once it is settled, or has expired. */
      dataKey: 'text?',
      body: 'blob?',
      plan: 'text',
      planHash: 'text',
      role: 'text',
      desk: 'text?',
      municipalities: 'text',
      state: 'text',
      proposedMs: 'integer',
      expiresMs: 'integer',
      approvedBy: 'text?',
      approvedMs: 'integer?',
      withdrawnBy: 'text?',
      settledMs: 'integer?',
      status: 'integer?',
      /** Why it was refused: code and detail of the problem, JSON. */
      refusal: 'text?',
    },
    key: ['proposalId'],
    indexes: [
      ['client', 'route', 'idempotencyKey'],
      ['client', 'state'],
      ['state', 'proposalId'],
    ],
  }),
} as const;
