import type {
  Actor,
  CertificateView,
  Consequence,
  ReserveCommand,
  SuccessionPlanner,
  Target,
} from '../core/certificate-store.ts';
import { invariant, PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import { applyPlan, certificatesOf, consequenceOf, sameKey } from './change.ts';
import type { RecordReader, Transaction } from './record.ts';
import type { Row } from './schema.ts';
import { keyOf } from './views.ts';

// An issuance may take the place of certificates: what happens to those happens as it is completed, in one transaction, so
// that a holder is never without, and an issuance that fails leaves the old ones as they are.

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
  const { changes, ...others } = await consequence(
    tx,
    row,
    act,
    (view) => view.issuanceId !== act.issuanceId,
  );
  const replaced = JSON.stringify(changes.map(keyOf));
  if (row.overlapMs > 0) {
    await tx.update('succession', { ...row, dueMs: act.nowMs + row.overlapMs, replaced }, row);
    return changes.map(keyOf);
  }
  await applyPlan(tx, { changes, ...others, actor: act.actor, nowMs: act.nowMs });
  await tx.update('succession', { ...row, replaced }, row);
  return changes.map(keyOf);
}

/** Ends the predecessors of one issuance, and what rests on them by now; nothing that was issued since. */
export async function endPredecessors(tx: Transaction, act: Succeeding): Promise<void> {
  const row = await tx.get('succession', { issuanceId: act.issuanceId });
  if (row?.dueMs == null) return;
  const predecessors = JSON.parse(row.replaced ?? '[]') as CertificateKey[];
  const isPredecessor = (key: CertificateKey): boolean => predecessors.some((one) => sameKey(one, key));
  const { changes, ...others } = await consequence(
    tx,
    row,
    act,
    (view) => isPredecessor(view) || (view.restsOn !== null && isPredecessor(view.restsOn)),
  );
  await applyPlan(tx, { changes, ...others, actor: act.actor, nowMs: act.nowMs });
  // What it was answered with stays what it is answered with.
  await tx.update('succession', { ...row, dueMs: null }, row);
}

/** What the event of a succession does to some of the holder's certificates. */
async function consequence(
  tx: Transaction,
  row: Row<'succession'>,
  { issuanceId, planner, nowMs }: Succeeding,
  isMeant: (view: CertificateView) => boolean,
): Promise<Consequence> {
  const target: Target =
    row.mediumId === null
      ? { type: 'holder', holderId: row.holderId }
      : { type: 'medium', mediumId: row.mediumId };
  invariant(planner, 'a succession has a planner');
  const views = (await certificatesOf(tx, target)).filter(isMeant);
  return consequenceOf(planner(row.event, target, issuanceId), views, nowMs);
}

/** Cards and phones whose end is only a matter of an overlap: they take up nobody's place. */
export async function endingMedia(tx: Transaction, holderId: string): Promise<ReadonlySet<string | null>> {
  const rows = await tx.find('succession', { holderId });
  return new Set(rows.filter(({ dueMs }) => dueMs !== null).map(({ mediumId }) => mediumId));
}

/** Successions that are looked through for the events they rest on. */
const pendingMax = 100_000;

/** Events of successions that are under way, or whose predecessors are yet to end. */
export async function pendingEvents(reader: RecordReader): Promise<string[]> {
  const due = await reader.findDue('succession', Number.MAX_SAFE_INTEGER, pendingMax);
  const reserved = await Promise.all(
    (await reader.find('reservation', {})).map(({ issuanceId }) => reader.get('succession', { issuanceId })),
  );
  return [...new Set([...due, ...reserved].flatMap((row) => (row ? [row.event] : [])))];
}
