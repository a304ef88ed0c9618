import { type CertificateId, keyOf, sameKey } from '../../core/model/certificate-id.ts';
import type { Consequence } from '../../core/model/plan.ts';
import { changeStatus, goodStatus, type RecordedStatus } from '../../core/model/revocation.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type {
  Actor,
  CertificateView,
  CompleteCommand,
  Completion,
  ReserveCommand,
  WantedIssuance,
} from '../api/certificate-store.ts';
import { clockStepMs } from '../engine/heads.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { RuleContext } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { isAwaited as isAwaitedDelivery, openActivation, wasAwaited } from './activation.ts';
import { isOrdered, useOrder } from './card-orders.ts';
import { useChallenge } from './challenges.ts';
import { writeStatus, writeUnexplained } from './change.ts';
import { countDeskAct, refuseAlone, refuseOtherTown, settleHolder } from './desks.ts';
import { insertDraft, refuseKey } from './drafts.ts';
import { useEnrolmentCode } from './enrolment-codes.ts';
import { refuseOccupied } from './hand-over.ts';
import { isKnownHolder, mediaOf } from './holders.ts';
import { type IssuedAs, insertIssuance } from './issuances.ts';
import { notifySuccession } from './links.ts';
import { writeMedium } from './media.ts';
import { moveLastDay } from './moved-days.ts';
import { orderDeletion, orderPersonalisation, wants, wantsNotices } from './outbox.ts';
import { endedLastBy } from './own-ends.ts';
import { failRequest, openRequest } from './requests.ts';
import { refuseRestricted } from './restrictions.ts';
import { noteIdentity, refuseSamePerson } from './same-person.ts';
import { refuseClosed } from './standing.ts';
import { examineSuccession, forgetSuccession, openSuccession, succeed, underWay } from './succession.ts';
import { passSwitch, refuseClosedSwitch } from './switches.ts';
import { certificateView, mediumView, ownStatusOf, statusOf } from './views.ts';

/** A certificate that occupies its slot: it may still be used, or come back to use. */
const occupies = ({ state }: CertificateView): boolean =>
  state === 'reserved' || state === 'good' || state === 'held';

/** A reservation that its node has not completed by then may be completed by another. */
const reservationLeaseMs = 60_000;

/** Makes an issuance durable. Everything it relies on is checked here again: the world may have moved since. */
export function reserveIssuance(tx: Transaction, command: ReserveCommand, context: RuleContext): void {
  const { nowMs } = context;
  const { issuanceId, scope, medium, challengeHash, codeHash, enrolledWith } = command;
  const { holderId } = medium;
  refuseSteppedBackClock(tx, nowMs);
  openRequest(tx, scope, nowMs, issuanceId);
  passSwitch(tx, command.function, nowMs);
  if (challengeHash) useChallenge(tx, challengeHash, { scope, usedBy: issuanceId, nowMs });
  const { isKnown, consequence, carried } = openMedium(tx, command, context);
  if (codeHash) useEnrolmentCode(tx, codeHash, { medium, usedBy: issuanceId, nowMs });
  // A new holder has no notice preferences.
  const preferences = isKnown ? tx.get('wish', { holderId }) : undefined;
  const wanted = preferences && wantsNotices(preferences) ? wants.holder : 0;
  const notify = wanted | (command.notifiesHolder ? wants.always : 0) || null;
  for (const draft of command.certificates) insertDraft(tx, { ...command, notify }, draft, nowMs);
  // Last: a request that would be refused waits for no one, and says nothing of others.
  const isOrder = isOrderWanted(command) && isOrdered(tx, command, nowMs);
  if (isOrder) useOrder(tx, command);
  refuseAlone({ ...command, isOrdered: isOrder }, consequence, {
    onMedium: carried,
    endedByItself: () => isKnown && endedLastBy(tx, holderId, scope.client, nowMs),
  });
  refuseSamePerson(tx, command);
  noteIdentity(tx, command);
  const { client, route, idempotencyKey } = scope;
  const leaseUntilMs = nowMs + reservationLeaseMs;
  const reservation = { issuanceId, writer: tx.writer, leaseUntilMs, client, route, idempotencyKey };
  tx.insert('reservation', reservation);
  if (enrolledWith) tx.insert('enrolment', { issuanceId, holderId, ...signerColumns(enrolledWith) });
  if (command.evidence) {
    const { key: dataKey, octets } = command.evidence;
    tx.insert('evidence', { issuanceId, dataKey, octets });
  }
}

/** Orders are looked up where a second person is wanted for what they are of. */
const isOrderWanted = ({ mandate }: Pick<WantedIssuance, 'mandate'>): boolean =>
  mandate?.approvalsWanted.includes('good-card') === true;

const signerColumns = ({ authority, epoch, position }: CertificateId) => ({
  signerAuthority: authority,
  signerEpoch: epoch,
  signerPosition: position,
});

/** Nothing is issued at a time that the record has passed: validity and order would both be wrong. */
function refuseSteppedBackClock({ heads }: Transaction, nowMs: number): void {
  const backMs = heads.atMs - nowMs;
  if (backMs > clockStepMs) {
    throw new PkiError(
      'clock-unreliable',
      `the clock is ${Math.round(backMs / 1000)} s behind what is on record`,
    );
  }
}

interface Examined {
  readonly isKnown: boolean;
  readonly known: Row<'medium'> | undefined;
  /** What ends for it; null where it takes the place of nothing. */
  readonly consequence: Consequence | null;
  /** What the card or phone carries before, and what it carried. */
  readonly carried: readonly CertificateView[];
  /** It is held until it has arrived. */
  readonly waits: boolean;
}

/** Checks what is wanted against all that the holder has; throws `PkiError` to refuse. Writes nothing. */
function examine(reader: RecordReader, wanted: WantedIssuance, context: RuleContext): Examined {
  const { nowMs } = context;
  const { medium, certificates } = wanted;
  const { holderId, mediumId } = medium;
  const known = reader.get('medium', { mediumId });
  const event = context.policy.events[wanted.succession?.event ?? ''];
  const isSigned = wanted.isSignedByCard === true && known?.holderId === holderId;
  // First: of another municipality's holder a desk learns nothing.
  refuseOtherTown(reader, wanted, { holderId, mayMove: isSigned && event?.town === 'moves' }, nowMs);
  const isKnown = isKnownHolder(reader, holderId);
  if (isKnown) {
    const kinds = certificates.map(({ kind }) => kind);
    refuseClosed(reader, holderId, kinds);
  }
  if (known && known.holderId !== holderId) refuseOccupied(reader, known, wanted, nowMs);
  refuseRestricted(reader, medium, nowMs);
  if (known?.type === 'card' && known.expiresMs !== medium.expiresMs && !wanted.movesLastDay) {
    throw new PkiError('bad-request', 'cardExpiresOn: not the day on record for that card');
  }
  const current = isKnown
    ? reader.find('certificate', { holderId }).map((row) => certificateView(reader, row))
    : [];
  const consequence = examineSuccession(reader, wanted, current, context);
  const owned = current.map((view) => {
    const change = consequence?.changes.find((candidate) => sameKey(candidate, view));
    return change ? { ...view, ...change.to } : view;
  });
  const isOwn = (view: CertificateView): boolean =>
    view.mediumId === mediumId && occupies(view) && view.notAfterMs > nowMs;
  const onMedium = owned.filter(isOwn);
  checkSlots(wanted, owned, onMedium, nowMs);
  refuseUnfinished(wanted, current.filter(isOwn));
  if (certificates.length === 1) checkSibling(reader, wanted, onMedium);
  if (isKnown) checkMedia(reader, wanted, { current, owned }, nowMs);
  const carried = current.filter((view) => view.mediumId === mediumId);
  return { isKnown, known, consequence, carried, waits: hasToArrive(wanted, current.filter(isOwn)) };
}

/**
 * Whether what is issued waits for its arrival: all does where storage is confirmed, else what takes the place of
 * another where nothing on the medium has arrived.
 */
function hasToArrive({ arrival, succession }: WantedIssuance, onMedium: readonly CertificateView[]): boolean {
  // What comes together with something that is waited for arrives with it.
  if (arrival?.handedOver != null) return false;
  if (onMedium.some(({ heldBy }) => heldBy.includes('not-delivered'))) return true;
  if (arrival?.waits === 'all') return true;
  return succession !== null && arrival?.waits === 'successors' && onMedium.length === 0;
}

/** Two issuances for one slot at once would each end the other. */
function refuseUnfinished({ certificates }: WantedIssuance, onMedium: readonly CertificateView[]): void {
  const other = onMedium.find(
    ({ state, kind }) => state === 'reserved' && certificates.some((draft) => draft.kind === kind),
  );
  if (other)
    throw new PkiError(
      'request-in-progress',
      `another ${other.kind} certificate is being issued to the medium`,
    );
}

/** What reserving would end; the same as `examine`, with what else would refuse it. */
export function previewReservation(
  reader: RecordReader,
  wanted: WantedIssuance,
  context: RuleContext,
): Consequence & { readonly isAwaited: boolean } {
  if (!wanted.succession) throw new PkiError('bad-request', 'dryRun: nothing ends without an event');
  refuseClosedSwitch(reader, wanted.function);
  const { consequence, waits } = examine(reader, wanted, context);
  for (const draft of wanted.certificates)
    if (reader.get('publicKey', { keyHash: draft.keyHash })) refuseKey(reader, draft);
  return { ...(consequence ?? { changes: [], orders: [], reissue: [] }), isAwaited: waits };
}

/** How long a delivery is awaited by default. */
const defaultWaitMs = 60 * 86_400_000;

/** Checks card or phone, and writes it. */
function openMedium(tx: Transaction, command: ReserveCommand, context: RuleContext): Examined {
  const { nowMs } = context;
  const { medium, issuanceId, arrival } = command;
  const { holderId, mediumId, expiresMs: toMs } = medium;
  const examined = examine(tx, command, context);
  const { known, waits } = examined;
  countDeskAct(tx, command.mandate, nowMs);
  const { municipality, mandate } = command;
  if (municipality != null)
    settleHolder(tx, holderId, municipality, { merged: mandate?.merged ?? {}, nowMs });
  openSuccession(tx, command, nowMs);
  if (waits)
    openActivation(tx, { issuanceId, holderId, mediumId }, nowMs + (arrival?.waitMs ?? defaultWaitMs));
  if (known?.type === 'card') moveLastDay(tx, { mediumId, toMs }, nowMs);
  writeMedium(tx, medium, nowMs);
  return examined;
}

/** The slots are free, and the card certificates that the new ones rest on, and the one that signed for them, are good. */
function checkSlots(
  { certificates, enrolledWith }: WantedIssuance,
  owned: readonly CertificateView[],
  onMedium: readonly CertificateView[],
  nowMs: number,
): void {
  for (const { kind } of certificates) {
    if (onMedium.some((view) => view.kind === kind))
      throw new PkiError(
        'slot-occupied',
        `the medium carries a ${kind} certificate already: name the event by which it is replaced`,
      );
  }
  for (const key of [...certificates.map(({ restsOn }) => restsOn), enrolledWith]) {
    if (!key) continue;
    const card = owned.find((view) => sameKey(view, key));
    if (card?.state !== 'good')
      throw new PkiError(
        'card-certificate-not-good',
        `the card certificate is ${card?.state ?? 'another holder’s'}`,
      );
    if (card.notAfterMs <= nowMs)
      throw new PkiError('card-certificate-not-good', 'the card certificate has expired');
  }
}

/**
 * One certificate comes alone where its sibling is good and stays; one for authentication also where that was asked for in
 * so many words. The two on one medium are of one suite.
 */
function checkSibling(
  reader: RecordReader,
  { medium, certificates, authenticationOnly }: WantedIssuance,
  onMedium: readonly CertificateView[],
): void {
  const [draft] = certificates;
  if (!draft) return;
  const isUsable = ({ state, heldBy }: CertificateView): boolean =>
    state === 'good' || (state === 'held' && heldBy.every((by) => by === 'not-delivered'));
  const sibling = onMedium.find((view) => isUsable(view) && view.kind !== draft.kind);
  if (!sibling) {
    if (authenticationOnly && draft.kind === `${medium.type}-authentication`) return;
    const what = draft.kind.endsWith('-signing') ? 'signing' : 'authentication';
    const other = what === 'signing' ? 'authentication' : 'signing';
    throw new PkiError(
      'slot-occupied',
      `${what} alone needs a medium whose ${other} certificate is good, which nothing holds`,
    );
  }
  const [one, two] = [draft, sibling].map(({ authority }) => reader.get('authority', { authority }));
  if (one && two && one.suite !== two.suite)
    throw new PkiError(
      'invalid-key',
      `requests: a ${one.suite} key, on a medium with a key of ${two.suite}; renew both`,
    );
}

/**
 * Refuses a phone whose card is about to end, and what would have the holder exceed a limit. What takes the place of something
 * adds nothing, nor does what is issued to a card or phone that is in force.
 */
function checkMedia(
  reader: RecordReader,
  { medium, limits }: WantedIssuance,
  of: { readonly current: readonly CertificateView[]; readonly owned: readonly CertificateView[] },
  nowMs: number,
): void {
  const { holderId, mediumId, type, platform, restsOn } = medium;
  const { ending, endingSoon } = underWay(reader, holderId, of.current);
  if (restsOn !== null && endingSoon.has(restsOn))
    throw new PkiError('request-in-progress', 'what takes the place of the card is being issued');
  const isInForce = (views: readonly CertificateView[], id: string): boolean =>
    views.some((view) => view.mediumId === id && occupies(view) && view.notAfterMs > nowMs);
  if (isInForce(of.current, mediumId)) return;
  const media = mediaOf(reader, holderId)
    .map(mediumView)
    .filter((other) => other.type === type && other.platform === platform && !ending.has(other.mediumId))
    .map((other) => other.mediumId);
  const before = media.filter((id) => isInForce(of.current, id)).length;
  const others = media.filter((id) => isInForce(of.owned, id)).length;
  const limit = type === 'card' ? limits.cards : limits.phonesPerPlatform;
  if (others + 1 > limit && others + 1 > before) {
    const what = type === 'card' ? 'cards' : 'phones of that platform';
    throw new PkiError(
      'quota-exceeded',
      `the holder has ${others} ${what} in force, or on the way, already: end one, confirm or discard what is on the way, or name what is replaced`,
    );
  }
}

/** Records what was signed, and what became of it. Doing it again, or by two nodes, changes nothing more. */
export function completeIssuance(
  tx: Transaction,
  command: CompleteCommand,
  context: RuleContext,
): Omit<Completion, 'outcome'> & { outcome: 'revoked' | Completion['outcome'] } {
  const { nowMs } = context;
  const { issuanceId, actor } = command;
  const rows = tx.find('certificate', { issuanceId });
  // A pair is never half: if one certificate of a pair is revoked while it is being signed, so is the other.
  const isRevoked = (row: Row<'certificate'>): boolean => statusOf(tx, row).state === 'revoked';
  const revoked = rows.find(isRevoked);
  const reservation = tx.get('reservation', { issuanceId });
  const isAwaited = isAwaitedDelivery(tx, issuanceId);
  if (!reservation) {
    const outcome = revoked ? 'revoked' : 'completed-before';
    return { outcome, replaced: [], isAwaited: wasAwaited(tx, issuanceId) };
  }
  // What restricts its phone has revoked it meanwhile: then it is written, for followers have received nothing of it.
  for (const row of rows.filter((each) => each.state === 'reserved' && isRevoked(each))) {
    const cause = { event: 'restricted-while-issuing', cascadedFrom: null, partOf: null };
    writeStatus(tx, { row, to: statusOf(tx, row), change: 'revoked', cause, actor, nowMs });
  }
  const completed = rows.map((row) => {
    const signed = command.certificates.find((certificate) => sameKey(certificate, row));
    if (!signed) throw new Error('an issuance completed in part');
    let issuedAs: IssuedAs | null = null;
    if (revoked && !isRevoked(row)) {
      const to = revokedWith(statusOf(tx, row), statusOf(tx, revoked), nowMs);
      const cause = { event: 'sibling-revoked-while-issuing', cascadedFrom: keyOf(revoked), partOf: null };
      writeStatus(tx, { row, to, change: 'revoked', cause, actor, nowMs });
      if (row.kind.startsWith('phone')) orderDeletion(tx, row, nowMs);
    } else if (!revoked) issuedAs = writeIssued(tx, row, { actor, nowMs, isAwaited });
    return { ...signed, issuedAs };
  });
  insertIssuance(tx, { issuanceId, actor, nowMs }, completed);
  tx.remove('reservation', { issuanceId });
  const [first] = rows;
  if (!revoked && isAwaited && first?.kind.startsWith('phone')) orderPersonalisation(tx, first, nowMs);
  if (revoked) forgetSuccession(tx, issuanceId);
  const replaced = revoked ? [] : succeed(tx, { issuanceId, actor, ...context }, isAwaited);
  if (!revoked)
    for (const row of tx.find('certificate', { issuanceId }))
      if (statusOf(tx, row).state === 'good') notifySuccession(tx, row, nowMs);
  if (revoked) failRequest(tx, reservation);
  return { outcome: revoked ? 'revoked' : 'completed', replaced, isAwaited };
}

/** If one certificate of a pair was revoked while it was signed, the other is revoked for the same reason. */
function revokedWith(status: RecordedStatus, sibling: RecordedStatus, nowMs: number): RecordedStatus {
  invariant(sibling.state === 'revoked', 'the sibling is revoked');
  const { reason, invalidityMs } = sibling;
  const to = changeStatus(status, { action: 'revoke', reason, invalidityMs }, nowMs);
  invariant(to, 'what is being issued can be revoked');
  return to;
}

/**
 * A certificate is good once it is signed; held while its delivery is awaited, and for as long as anything else holds it. Gives as what it was
 * issued, where that is all there is to say.
 */
function writeIssued(
  tx: Transaction,
  row: Row<'certificate'>,
  { actor, nowMs, isAwaited }: { readonly actor: Actor; readonly nowMs: number; readonly isAwaited: boolean },
): IssuedAs | null {
  const from = ownStatusOf(row);
  const isFirst = row.state === 'reserved';
  const to = isAwaited
    ? changeStatus(from, { action: 'hold', by: 'not-delivered' }, nowMs)
    : isFirst
      ? goodStatus
      : from;
  if (!to || to === from) return null;
  const cause = { event: 'issued', cascadedFrom: null, partOf: null };
  if (isFirst) writeUnexplained(tx, { row, to, change: 'issued', nowMs });
  else writeStatus(tx, { row, to, change: 'held', cause, actor, nowMs });
  return isFirst ? (isAwaited ? 'held' : 'good') : null;
}
