import type {
  Actor,
  CertificateView,
  ReserveCommand,
  SuccessionPlanner,
  Target,
} from '../core/certificate-store.ts';
import { invariant, PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import { applyPlan, certificatesOf, consequenceOf, sameKey } from './change.ts';
import type { Transaction } from './record.ts';
import type { Row } from './schema.ts';
import { keyOf } from './views.ts';

// An issuance may take the place of certificates: what happens to those happens as it is completed, in one transaction, so
// that a holder is never without, and an issuance that fails leaves the old ones as they are.

const isOf = (issuanceId: string) => (view: CertificateView) => view.issuanceId === issuanceId;

/** Writes down what an issuance succeeds, and gives the holder's certificates as they will be. */
export async function openSuccession(
  tx: Transaction,
  { issuanceId, succession, medium }: ReserveCommand,
  owned: readonly CertificateView[],
  nowMs: number,
): Promise<readonly CertificateView[]> {
  if (!succession) return owned;
  const { event, target, overlapMs } = succession;
  if (target.type === 'medium') {
    const replaced = await tx.get('medium', { mediumId: target.mediumId });
    if (!replaced) throw new PkiError('not-found', 'no such card or phone to take the place of');
    if (replaced.holderId !== medium.holderId)
      throw new PkiError('medium-belongs-to-another-holder', 'what is to be replaced is another holder’s');
  }
  await tx.insert('succession', {
    issuanceId,
    event,
    mediumId: target.type === 'medium' ? target.mediumId : null,
    holderId: medium.holderId,
    overlapMs,
    dueMs: null,
    replaced: null,
  });
  const { changes } = consequenceOf(succession.plan, owned, nowMs);
  return owned.map((view) => {
    const change = changes.find((candidate) => sameKey(candidate, view));
    return change ? { ...view, ...change.to } : view;
  });
}

interface Succeeding {
  readonly issuanceId: string;
  readonly planner: SuccessionPlanner | null;
  readonly actor: Actor;
  readonly nowMs: number;
}

/** What an issuance that is completed does to its predecessors: at once, or when their overlap has passed. */
export async function succeed(tx: Transaction, act: Succeeding): Promise<readonly CertificateKey[]> {
  const row = await tx.get('succession', { issuanceId: act.issuanceId });
  if (!row) return [];
  if (row.overlapMs > 0) {
    await tx.update('succession', { ...row, dueMs: act.nowMs + row.overlapMs }, row);
    return [];
  }
  return endPredecessors(tx, row, act);
}

/** Ends the predecessors of one issuance. Gives those that were changed. */
export async function endPredecessors(
  tx: Transaction,
  row: Row<'succession'>,
  { issuanceId, planner, actor, nowMs }: Succeeding,
): Promise<readonly CertificateKey[]> {
  const target: Target =
    row.mediumId === null
      ? { type: 'holder', holderId: row.holderId }
      : { type: 'medium', mediumId: row.mediumId };
  invariant(planner, 'a succession has a planner');
  const views = await certificatesOf(tx, target);
  const before = views.filter((view) => !isOf(issuanceId)(view));
  const consequence = consequenceOf(planner(row.event, target, issuanceId), before, nowMs);
  await applyPlan(tx, { ...consequence, actor, nowMs });
  const replaced = consequence.changes.map(keyOf);
  await tx.update('succession', { ...row, dueMs: null, replaced: JSON.stringify(replaced) }, row);
  return replaced;
}
