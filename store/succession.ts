import type {
  Actor,
  CertificateView,
  ChangeCommand,
  Consequence,
  ReserveCommand,
  Succession,
  SuccessionPlanner,
} from '../core/certificate-store.ts';
import { invariant, PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import { type HolderKind, slotOf } from '../core/kinds.ts';
import { openActivation } from './activation.ts';
import { certificatesOf, consequenceOf, sameKey } from './change.ts';
import { factsOf } from './facts.ts';
import { applyPlan, planned } from './holder-change.ts';
import { recordReport, refuseReported, reportIds } from './life-events.ts';
import type { RecordReader, Transaction } from './record.ts';
import type { Row } from './schema.ts';
import { keyOf } from './views.ts';

// An issuance may take the place of certificates: what happens to those happens as it is completed, or as its delivery is
// confirmed, in one transaction, so that a holder is never without, and an issuance that fails leaves the old ones as they
// are.

/** What an issuance would end, as it is now; throws where it may not. null where it takes the place of nothing. */
export async function examineSuccession(
  reader: RecordReader,
  { succession, medium, scope }: Pick<ReserveCommand, 'succession' | 'medium' | 'scope'>,
  owned: readonly CertificateView[],
  nowMs: number,
): Promise<Consequence | null> {
  if (!succession) return null;
  const { target, report } = succession;
  const { holderId } = medium;
  if (target.type === 'medium') {
    const replaced = await reader.get('medium', { mediumId: target.mediumId });
    // One answer for what there is not and for what is somebody else's.
    if (replaced?.holderId !== holderId)
      throw new PkiError('not-found', 'the holder has no such card or phone to take the place of');
  }
  if (report) await refuseReported(reader, scope.client, report);
  const facts = await factsOf(reader, holderId);
  succession.checkDue?.(owned, facts);
  const consequence = consequenceOf((views) => succession.plan(views, facts), owned, nowMs);
  succession.checkPlan?.(consequence);
  return consequence;
}

/** Writes down what an issuance succeeds, what waits for its arrival, and the event that it comes with. */
export async function openSuccession(
  tx: Transaction,
  { issuanceId, succession, medium, scope, actor }: ReserveCommand,
  nowMs: number,
): Promise<void> {
  if (!succession) return;
  const { event, target, overlapMs, awaitMs, report, arrival } = succession;
  const { holderId, mediumId } = medium;
  await tx.insert('succession', {
    issuanceId,
    event,
    mediumId: target.type === 'medium' ? target.mediumId : null,
    holderId,
    overlapMs,
    dueMs: null,
    replaced: null,
  });
  if (awaitMs != null) await openActivation(tx, { issuanceId, holderId, mediumId }, nowMs + awaitMs);
  const by = { holderId, scope, actor, issuanceId, reply: null, nowMs };
  if (report) await recordReport(tx, report, by);
  // Handed over as it is issued: that is its delivery.
  if (report && arrival != null)
    await recordReport(tx, { ...report, event: arrival, mediumId, eventId: null }, by);
}

interface Succeeding {
  readonly issuanceId: string;
  readonly planner: SuccessionPlanner | null;
  readonly actor: Actor;
  readonly nowMs: number;
}

/**
 * What an issuance that is completed does to its predecessors: at once; when their overlap has passed; or, while its
 * delivery is awaited, nothing yet.
 */
export async function succeed(
  tx: Transaction,
  act: Succeeding,
  isAwaited: boolean,
): Promise<readonly CertificateKey[]> {
  const row = await tx.get('succession', { issuanceId: act.issuanceId });
  if (!row) return [];
  const consequence = await consequenceFor(tx, row, act, (view) => view.issuanceId !== act.issuanceId);
  const replaced = consequence.changes.map(keyOf);
  const text = JSON.stringify(replaced);
  if (isAwaited || row.overlapMs > 0) {
    const dueMs = isAwaited ? null : act.nowMs + row.overlapMs;
    await tx.update('succession', { ...row, dueMs, replaced: text }, row);
    return replaced;
  }
  await apply(tx, row, consequence, act);
  await tx.update('succession', { ...row, replaced: text }, row);
  return replaced;
}

/** Ends the predecessors of one issuance, and what rests on them by now; nothing that was issued since. */
export async function endPredecessors(tx: Transaction, act: Succeeding): Promise<void> {
  const row = await tx.get('succession', { issuanceId: act.issuanceId });
  if (row?.dueMs == null) return;
  const predecessors = JSON.parse(row.replaced ?? '[]') as CertificateKey[];
  const isPredecessor = (key: CertificateKey): boolean => predecessors.some((one) => sameKey(one, key));
  const consequence = await consequenceFor(
    tx,
    row,
    act,
    (view) => isPredecessor(view) || (view.restsOn !== null && isPredecessor(view.restsOn)),
  );
  await apply(tx, row, consequence, act);
  // What it was answered with stays what it is answered with.
  await tx.update('succession', { ...row, dueMs: null }, row);
}

/** An issuance that failed took the place of nothing, and its event has not happened. */
export async function forgetSuccession(tx: Transaction, issuanceId: string): Promise<void> {
  if (await tx.get('activation', { issuanceId })) await tx.remove('activation', { issuanceId });
  for (const entryId of reportIds(issuanceId))
    if (await tx.get('lifeEvent', { entryId })) await tx.remove('lifeEvent', { entryId });
}

/** Carries out a plan of the service itself. */
export async function carryOut(
  tx: Transaction,
  { target, plan }: Pick<ChangeCommand, 'target' | 'plan'>,
  { actor, nowMs }: Pick<Succeeding, 'actor' | 'nowMs'>,
): Promise<void> {
  const consequence = await planned(tx, { target, plan }, nowMs);
  await applyPlan(tx, consequence, { target, event: 'certificate', actor, nowMs });
}

const targetOf = ({ mediumId, holderId }: Row<'succession'>): Succession['target'] =>
  mediumId === null ? { type: 'holder', holderId } : { type: 'medium', mediumId };

function apply(
  tx: Transaction,
  row: Row<'succession'>,
  consequence: Consequence,
  { actor, nowMs }: Succeeding,
): Promise<void> {
  return applyPlan(tx, consequence, { target: targetOf(row), event: row.event, actor, nowMs });
}

/** What the event of a succession does to some of the holder's certificates. */
async function consequenceFor(
  tx: Transaction,
  row: Row<'succession'>,
  { issuanceId, planner, nowMs }: Succeeding,
  isMeant: (view: CertificateView) => boolean,
): Promise<Consequence> {
  invariant(planner, 'a succession has a planner');
  const target = targetOf(row);
  const facts = await factsOf(tx, row.holderId);
  const all = await certificatesOf(tx, { type: 'holder', holderId: row.holderId });
  const slots = all
    .filter((view) => view.issuanceId === issuanceId)
    .map(({ kind }) => slotOf(kind as HolderKind));
  const occurredMs = facts.events.find((each) => each.issuanceId === issuanceId)?.occurredMs ?? null;
  const plan = planner(row.event, target, { issuanceId, slots, occurredMs });
  return consequenceOf((views) => plan(views, facts), all.filter(isMeant), nowMs);
}

/**
 * Cards and phones whose end is only a matter of an overlap, or of the arrival of what takes their place: they take up
 * nobody else's.
 */
export async function endingMedia(
  reader: RecordReader,
  holderId: string,
): Promise<ReadonlySet<string | null>> {
  const awaited = (await reader.find('activation', { holderId }))
    .filter(({ state }) => state === 'awaited')
    .map(({ issuanceId }) => issuanceId);
  const rows = await reader.find('succession', { holderId });
  const ending = rows.filter(({ dueMs, issuanceId }) => dueMs !== null || awaited.includes(issuanceId));
  return new Set(ending.map(({ mediumId }) => mediumId));
}

/** Successions that are looked through for the events they rest on. */
const pendingMax = 100_000;

/** Events of successions that are under way, or whose predecessors are yet to end. */
export async function pendingEvents(reader: RecordReader): Promise<string[]> {
  const due = await reader.findDue('succession', Number.MAX_SAFE_INTEGER, pendingMax);
  const ids = [
    ...(await reader.find('reservation', {})),
    ...(await reader.findDue('activation', Number.MAX_SAFE_INTEGER, pendingMax)),
  ].map(({ issuanceId }) => issuanceId);
  const waiting = await Promise.all(ids.map((issuanceId) => reader.get('succession', { issuanceId })));
  return [...new Set([...due, ...waiting].flatMap((row) => (row ? [row.event] : [])))];
}
