import { ApprovalNeeded } from '../../core/model/approval.ts';
import { holderKinds } from '../../core/model/kinds.ts';
import type { Consequence } from '../../core/model/plan.ts';
import type { Transaction } from '../engine/record.ts';
import type { Load, Lock } from '../engine/rule.ts';
import { countOfDay, dayCountLoad, dayCountLock } from './day-count.ts';

// What one client may revoke in a day without a second person: beyond that it holds, and the revocation is proposed.

interface ByClient {
  readonly client: string;
  /** As in `Mandate`. */
  readonly max: number | null | undefined;
}

const counter = (client: string): string => `revocations:${client}`;

export const revocationLocks = ({ client, max }: ByClient): readonly Lock[] =>
  max == null ? [] : [dayCountLock(counter(client))];

export const revocationLoads = ({ client, max }: ByClient): readonly Load[] =>
  max == null ? [] : [dayCountLoad(counter(client))];

/** Counts an act that revokes what holders have. Throws `ApprovalNeeded` where its client has done as many as it may. */
export function countRevocation(
  tx: Transaction,
  { changes }: Pick<Consequence, 'changes'>,
  { client, max }: ByClient,
  nowMs: number,
): void {
  if (max == null) return;
  const ofHolders: readonly string[] = holderKinds;
  const revokes = changes.some(
    ({ kind, from, to }) => ofHolders.includes(kind) && to.state === 'revoked' && from.state !== 'revoked',
  );
  if (revokes && !countOfDay(tx, counter(client), max, nowMs)) throw new ApprovalNeeded('mass-revocation');
}
