import { errorStatus, PkiError } from '../../core/runtime/errors.ts';
import type { Proposal, ProposalStore, ProposedRequest } from '../api/proposal-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { answeredOnce } from './once.ts';

// The rules of what waits for a second person.

type ProposeCommand = Parameters<ProposalStore['propose']>[0];

export function proposalView(row: Row<'proposal'>): Proposal {
  const {
    client,
    route: _,
    idempotencyKey: __,
    bodyHash: ___,
    url: ____,
    dataKey: _____,
    body: ______,
    ...shown
  } = row;
  return {
    ...shown,
    proposedBy: client,
    act: row.act as Proposal['act'],
    state: row.state as Proposal['state'],
    municipalities: JSON.parse(row.municipalities) as string[],
    refusal: row.refusal === null ? null : (JSON.parse(row.refusal) as Proposal['refusal']),
  };
}

/** The proposal of a request; undefined where there is none. Throws `idempotency-key-reused`. */
export function proposalOf(
  reader: RecordReader,
  scope: ProposedRequest['scope'],
): Row<'proposal'> | undefined {
  const { client, route, idempotencyKey, bodyHash } = scope;
  const [row] = reader.find('proposal', { client, route, idempotencyKey });
  if (row && Buffer.compare(row.bodyHash, bodyHash) !== 0)
    throw new PkiError('idempotency-key-reused', 'that Idempotency-Key was used with another request');
  return row;
}

export const propose: Rule<ProposeCommand, Proposal> = {
  action: 'propose',
  actor: ({ actor }) => actor,
  subject: ({ proposalId, act, planHash }) => ({ proposalId, act, planHash }),
  locks: ({ proposalId, scope }) => [exclusive('proposal', proposalId), proposerLock(scope)],
  loads: ({ scope: { client, route, idempotencyKey }, openMax }) => [
    byIndex('proposal', { client, route, idempotencyKey }),
    ...(openMax === null ? [] : [byIndex('proposal', { client, state: 'proposed' })]),
  ],
  decide: ({ scope, sealed, openMax, actor: _, ...proposal }, tx, { nowMs }) => {
    const before = proposalOf(tx, scope);
    if (before) return proposalView(before);
    if (openMax !== null && openOf(tx, scope.client, nowMs) >= openMax)
      throw new PkiError(
        'quota-exceeded',
        `${openMax} requests of this client wait for a second person, as many as may: have some approved, or withdraw them`,
      );
    const { client, route, idempotencyKey, bodyHash } = scope;
    const row = {
      ...{ ...proposal, client, route, idempotencyKey, bodyHash },
      municipalities: JSON.stringify(proposal.municipalities),
      ...{ dataKey: sealed.key, body: sealed.octets },
      state: 'proposed',
      proposedMs: nowMs,
      ...{
        approvedBy: null,
        approvedMs: null,
        withdrawnBy: null,
        settledMs: null,
        status: null,
        refusal: null,
      },
    };
    tx.insert('proposal', row);
    return proposalView(row);
  },
};

/** Requests of a client that wait, but for revocations: those are held already, and as many as there are. */
const openOf = (reader: RecordReader, client: string, nowMs: number): number =>
  reader
    .find('proposal', { client, state: 'proposed' })
    .filter(({ act, expiresMs }) => act !== 'mass-revocation' && expiresMs > nowMs).length;

const proposerLock = ({ client }: Pick<Row<'proposal'>, 'client'>): Lock => exclusive('proposer', client);

const proposalLoads = ({ proposalId }: Pick<Proposal, 'proposalId'>): readonly Load[] => [
  byKey('proposal', { proposalId }),
];

/** A row is found by its id and among those of its proposer: who writes it holds both locks. */
const locateProposal = proposalLoads;
function proposalLocks({ proposalId }: Pick<Proposal, 'proposalId'>, located: RecordReader): readonly Lock[] {
  const row = located.get('proposal', { proposalId });
  return [exclusive('proposal', proposalId), ...(row ? [proposerLock(row)] : [])];
}

/** A proposal that is neither decided nor past its time. Throws `not-found` or `illegal-transition`. */
function openProposal(reader: RecordReader, proposalId: string, nowMs: number): Row<'proposal'> {
  const row = reader.get('proposal', { proposalId });
  if (!row) throw new PkiError('not-found', 'no such proposal');
  if (row.state === 'expired' || (row.state === 'proposed' && row.expiresMs <= nowMs))
    throw new PkiError('illegal-transition', 'the proposal has expired: propose it again');
  if (row.state !== 'proposed')
    throw new PkiError('illegal-transition', `the proposal is ${row.state}, not proposed`);
  return row;
}

/** A proposal as it is once it is approved. Throws `forbidden`, `plan-changed`, `not-found` and `illegal-transition`. */
function approve(
  tx: Transaction,
  { proposalId, planHash }: Pick<Proposal, 'proposalId' | 'planHash'>,
  client: string,
  nowMs: number,
): Row<'proposal'> {
  const row = openProposal(tx, proposalId, nowMs);
  if (row.client === client)
    throw new PkiError('forbidden', 'a proposal is approved by another person than proposed it');
  if (row.planHash !== planHash)
    throw new PkiError('plan-changed', 'planHash: not that of the proposal; look at its plan');
  const after = { ...row, state: 'approved', approvedBy: client, approvedMs: nowMs };
  tx.update('proposal', after, row);
  return after;
}

export const approveProposals = answeredOnce<
  Parameters<ProposalStore['approveAll']>[0],
  Awaited<ReturnType<ProposalStore['approveAll']>>
>({
  action: 'approveProposals',
  subject: ({ proposals }) => ({ proposals }),
  locate: ({ proposals }) => proposals.flatMap(proposalLoads),
  locks: ({ proposals }, located) => proposals.flatMap((each) => proposalLocks(each, located)),
  loads: ({ proposals }) => proposals.flatMap(proposalLoads),
  decide: ({ proposals, unknown, scope }, tx, { nowMs }) => {
    const approved: string[] = [];
    const refused = [...unknown];
    for (const each of proposals)
      try {
        approved.push(approve(tx, each, scope.client, nowMs).proposalId);
      } catch (error) {
        if (!(error instanceof PkiError) || errorStatus[error.code] >= 500) throw error;
        refused.push({ proposalId: each.proposalId, title: error.code, detail: error.message });
      }
    return { approved, refused };
  },
});

export const approveProposal = answeredOnce<Parameters<ProposalStore['approve']>[0], Proposal>({
  action: 'approveProposal',
  subject: ({ proposalId, planHash }) => ({ proposalId, planHash }),
  locate: locateProposal,
  locks: proposalLocks,
  loads: proposalLoads,
  decide: (command, tx, { nowMs }) => proposalView(approve(tx, command, command.scope.client, nowMs)),
});

export const withdrawProposal = answeredOnce<Parameters<ProposalStore['withdraw']>[0], Proposal>({
  action: 'withdrawProposal',
  subject: ({ proposalId }) => ({ proposalId }),
  locate: locateProposal,
  locks: proposalLocks,
  loads: proposalLoads,
  decide: ({ proposalId, scope }, tx, { nowMs }) => {
    const row = openProposal(tx, proposalId, nowMs);
    if (row.withdrawnBy === scope.client)
      throw new PkiError(
        'illegal-transition',
        'another person than proposed it withdraws it with a second one',
      );
    const isDecided = row.client === scope.client || row.withdrawnBy !== null;
    const after = isDecided
      ? { ...row, state: 'withdrawn', withdrawnBy: scope.client, settledMs: nowMs, dataKey: null, body: null }
      : { ...row, withdrawnBy: scope.client };
    tx.update('proposal', after, row);
    return proposalView(after);
  },
});

export const settleProposal: Rule<Parameters<ProposalStore['settle']>[0], void> = {
  action: 'settleProposal',
  subject: ({ proposalId, status }) => ({ proposalId, status }),
  locate: locateProposal,
  locks: proposalLocks,
  loads: proposalLoads,
  decide: ({ proposalId, status, refusal: why }, tx, { nowMs }) => {
    const row = tx.get('proposal', { proposalId });
    if (row?.state !== 'approved') return;
    const state = status < 300 ? 'done' : 'failed';
    const refusal = why && JSON.stringify(why);
    const settled = { state, status, refusal, settledMs: nowMs, dataKey: null, body: null };
    tx.update('proposal', { ...row, ...settled }, row);
  },
};

export const expireProposal: Rule<Pick<Proposal, 'proposalId'>, void> = {
  action: 'expireProposal',
  subject: ({ proposalId }) => ({ proposalId }),
  locate: locateProposal,
  locks: proposalLocks,
  loads: proposalLoads,
  decide: ({ proposalId }, tx, { nowMs }) => {
    const row = tx.get('proposal', { proposalId });
    if (row?.state !== 'proposed' || row.expiresMs > nowMs) return;
    tx.update('proposal', { ...row, state: 'expired', settledMs: nowMs, dataKey: null, body: null }, row);
  },
};
