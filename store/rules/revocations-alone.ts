import { ApprovalNeeded } from '../../core/model/approval.ts';
import { holderKinds } from '../../core/model/kinds.ts';
import type { Consequence } from '../../core/model/plan.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
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

/** Whether a plan ends what holders have: now, or at a card's last day that moves forward. */
function ends(reader: RecordReader, { changes, lastDay }: Pick<Consequence, 'changes' | 'lastDay'>): boolean {
  const ofHolders: readonly string[] = holderKinds;
  const card = lastDay && reader.get('medium', { mediumId: lastDay.mediumId });
  if (card && lastDay.toMs < card.expiresMs) return true;
  return changes.some(
    ({ kind, from, to }) => ofHolders.includes(kind) && to.state === 'revoked' && from.state !== 'revoked',
  );
}

/** Counts an act that ends what holders have. Throws `ApprovalNeeded` where its client has done as many as it may. */
export function countRevocation(
  tx: Transaction,
  consequence: Pick<Consequence, 'changes' | 'lastDay'>,
  { client, max }: ByClient,
  nowMs: number,
): void {
  if (max == null) return;
  if (ends(tx, consequence) && !countOfDay(tx, counter(client), max, nowMs))
    throw new ApprovalNeeded('mass-revocation');
}
