import type {
  CertificateDraft,
  CertificateView,
  CompleteCommand,
  Completion,
  Medium,
  RequestScope,
  ReserveCommand,
} from '../core/certificate-store.ts';
import { PkiError } from '../core/errors.ts';
import { sameKey, writeStatus } from './change.ts';
import { clockStepMs } from './heads.ts';
import { orderDeletion, wants } from './outbox.ts';
import type { Transaction } from './record.ts';
import { openRequest } from './requests.ts';
import { refuseRestricted } from './restrictions.ts';
import { endingMedia, openSuccession, succeed } from './succession.ts';
import { passSwitch } from './switches.ts';
import { certificateView, keyOf, mediumView, statusOf } from './views.ts';

/** A certificate that occupies its slot: it may still be used, or come back to use. */
const occupies = ({ state }: CertificateView): boolean =>
  state === 'reserved' || state === 'good' || state === 'held';

/** Makes an issuance durable. Everything it relies on is checked here again: the world may have moved since. */
export async function reserveIssuance(
  tx: Transaction,
  command: ReserveCommand,
  { nowMs, leaseUntilMs }: { readonly nowMs: number; readonly leaseUntilMs: number },
): Promise<void> {
  const { issuanceId, scope } = command;
  refuseSteppedBackClock(tx, nowMs);
  await openRequest(tx, scope, nowMs, issuanceId);
  await passSwitch(tx, command.function, nowMs);
  await refuseRestricted(tx, command.medium, nowMs);
  if (command.challengeHash)
    await useChallenge(tx, command.challengeHash, { scope, usedBy: issuanceId, nowMs });
  const isKnown = await checkMedium(tx, command, nowMs);
  // Whoever is new has wished for nothing yet.
  const wish = isKnown ? await tx.get('wish', { holderId: command.medium.holderId }) : undefined;
  const notify = wish && wish.occasions !== '' ? wants.holder : null;
  for (const draft of command.certificates) await insertDraft(tx, { ...command, notify }, draft, nowMs);
  const { client, route, idempotencyKey } = scope;
  const reservation = { issuanceId, writer: tx.writer, leaseUntilMs, client, route, idempotencyKey };
  await tx.insert('reservation', reservation);
  if (command.evidence) {
    const { key: dataKey, octets } = command.evidence;
    await tx.insert('evidence', { issuanceId, dataKey, octets });
  }
}

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

/** Uses a challenge up; `challenge-not-usable` unless it was given to that client, not long ago, and not used before. */
export async function useChallenge(
  tx: Transaction,
  challengeHash: Uint8Array,
  by: { readonly scope: RequestScope; readonly usedBy: string; readonly nowMs: number },
): Promise<void> {
  const { scope, usedBy, nowMs } = by;
  const challenge = await tx.get('challenge', { challengeHash });
  if (!challenge || challenge.client !== scope.client) {
    throw new PkiError('challenge-not-usable', 'the challenge was not given to this client');
  }
  if (challenge.usedBy !== null) throw new PkiError('challenge-not-usable', 'the challenge was used before');
  if (challenge.expiresMs <= nowMs) throw new PkiError('challenge-not-usable', 'the challenge has expired');
  await tx.update('challenge', { ...challenge, usedBy }, challenge);
}

/** Checks card or phone against all that its holder has, and writes it. Gives whether the holder was known before. */
async function checkMedium(tx: Transaction, command: ReserveCommand, nowMs: number): Promise<boolean> {
  const { medium, certificates } = command;
  const { holderId, mediumId } = medium;
  const isKnown = (await tx.get('holder', { holderId })) !== undefined;
  if (!isKnown) await tx.insert('holder', { holderId, createdMs: nowMs });
  const current = isKnown ? (await tx.find('certificate', { holderId })).map(certificateView) : [];
  const owned = await openSuccession(tx, command, current, nowMs);
  const media = isKnown ? (await tx.find('medium', { holderId })).map(mediumView) : [];
  const known = await tx.get('medium', { mediumId });
  if (known && known.holderId !== holderId) {
    throw new PkiError('medium-belongs-to-another-holder', 'that card or phone is another holder’s');
  }
  if (known?.type === 'card' && known.expiresMs !== medium.expiresMs) {
    throw new PkiError('bad-request', 'cardExpiresOn: not the day on record for that card');
  }
  const onMedium = owned.filter(
    (view) => view.mediumId === mediumId && occupies(view) && view.notAfterMs > nowMs,
  );
  for (const draft of certificates) {
    if (onMedium.some((view) => view.kind === draft.kind)) {
      throw new PkiError('slot-occupied', `the medium carries a ${draft.kind} certificate already`);
    }
    const { restsOn } = draft;
    if (restsOn) {
      const card = owned.find((view) => sameKey(view, restsOn));
      if (card?.state !== 'good') {
        throw new PkiError(
          'card-certificate-not-good',
          `the card certificate is ${card?.state ?? 'another holder’s'}`,
        );
      }
    }
  }
  if (certificates.length === 1) checkReplacement(command, onMedium);
  if (isKnown) {
    const ending = await endingMedia(tx, holderId);
    const staying = media.filter((other) => !ending.has(other.mediumId));
    checkQuota(command, staying, owned, nowMs);
  }
  if (known) await tx.update('medium', { ...known, ...medium }, known);
  else await tx.insert('medium', { ...medium, createdMs: nowMs });
  return isKnown;
}

/**
 * A signing certificate comes alone only where an authentication certificate lives on; one for authentication only where
 * that was asked for in so many words.
 */
function checkReplacement(
  { medium, certificates, authenticationOnly }: ReserveCommand,
  onMedium: readonly CertificateView[],
): void {
  if (authenticationOnly) return;
  const sibling = `${medium.type}-authentication`;
  const lives = onMedium.some((view) => view.kind === sibling && view.state === 'good');
  if (certificates[0]?.kind !== `${medium.type}-signing` || !lives) {
    throw new PkiError(
      'slot-occupied',
      'signing alone needs a medium whose authentication certificate is good',
    );
  }
}

function checkQuota(
  { medium, limits }: ReserveCommand,
  media: readonly Medium[],
  owned: readonly CertificateView[],
  nowMs: number,
): void {
  const inForce = media.filter(
    (other) =>
      other.mediumId !== medium.mediumId &&
      other.type === medium.type &&
      other.platform === medium.platform &&
      owned.some((view) => view.mediumId === other.mediumId && occupies(view) && view.notAfterMs > nowMs),
  );
  const limit = medium.type === 'card' ? limits.cards : limits.phonesPerPlatform;
  if (inForce.length >= limit) {
    const what = medium.type === 'card' ? 'cards' : 'phones of that platform';
    throw new PkiError('quota-exceeded', `the holder has ${inForce.length} ${what} in force already`);
  }
}

/** Writes one certificate of an issuance as reserved: its key, its to-be-signed bytes. */
export async function insertDraft(
  tx: Transaction,
  issuance: {
    readonly issuanceId: string;
    readonly medium: Medium | null;
    /** As in `certificate.notify`. */
    readonly notify: number | null;
  },
  draft: CertificateDraft,
  nowMs: number,
): Promise<void> {
  const { keyHash, shard, restsOn } = draft;
  const key = { keyHash, certifiedMs: nowMs, blockedMs: null, ...keyOf(draft) };
  if (!(await tx.insertNew('publicKey', key))) await refuseKey(tx, draft);
  await tx.insert('certificate', {
    ...keyOf(draft),
    kind: draft.kind,
    holderId: issuance.medium?.holderId ?? null,
    mediumId: issuance.medium?.mediumId ?? null,
    issuanceId: issuance.issuanceId,
    state: 'reserved',
    reason: null,
    revokedMs: null,
    invalidityMs: null,
    heldBy: null,
    notify: issuance.notify,
    version: 0,
    notBeforeMs: draft.notBeforeMs,
    notAfterMs: draft.notAfterMs,
    shard: shard?.shard ?? null,
    restsOnAuthority: restsOn?.authority ?? null,
    restsOnEpoch: restsOn?.epoch ?? null,
    restsOnPosition: restsOn?.position ?? null,
  });
  const { key: dataKey, octets } = draft.toBeSigned;
  await tx.insert('encoding', { ...keyOf(draft), dataKey, octets });
}

/** A public key is certified once, ever; one that was blocked never. */
async function refuseKey(tx: Transaction, { keyHash, kind }: CertificateDraft): Promise<never> {
  const known = await tx.get('publicKey', { keyHash });
  if (known?.blockedMs) throw new PkiError('invalid-key', `the public key for ${kind} is blocked`);
  throw new PkiError('already-certified', `the public key for ${kind} has been certified before`);
}

/** Records what was signed, and what became of it. Doing it again, or by two nodes, changes nothing more. */
export async function completeIssuance(
  tx: Transaction,
  command: CompleteCommand,
  nowMs: number,
): Promise<{ outcome: 'revoked' | Completion['outcome']; replaced: Completion['replaced'] }> {
  const { issuanceId, actor } = command;
  const rows = await tx.find('certificate', { issuanceId });
  // A pair is never half: what befell one certificate while it was being signed befalls its sibling.
  const revoked = rows.find((row) => row.state === 'revoked');
  const reservation = await tx.get('reservation', { issuanceId });
  if (!reservation) return { outcome: revoked ? 'revoked' : 'completed-before', replaced: [] };
  for (const row of rows) {
    const signed = command.certificates.find((certificate) => sameKey(certificate, row));
    if (!signed) throw new Error('an issuance completed in part');
    await tx.insert('signature', { ...keyOf(row), octets: signed.signature });
    if (revoked && row.state !== 'revoked') {
      const to = { ...statusOf(revoked), revokedMs: nowMs };
      const cause = { event: 'sibling-revoked-while-issuing', cascadedFrom: keyOf(revoked), partOf: null };
      await writeStatus(tx, { row, to, change: 'revoked', cause, actor, nowMs });
      if (row.kind.startsWith('phone')) await orderDeletion(tx, row, nowMs);
    } else if (row.state === 'reserved') {
      const to = { ...statusOf(row), state: 'good' as const };
      const cause = { event: 'issued', cascadedFrom: null, partOf: null };
      await writeStatus(tx, { row, to, change: 'issued', cause, actor, nowMs });
    }
  }
  await tx.remove('reservation', { issuanceId });
  const replaced = revoked ? [] : await succeed(tx, { ...command, nowMs });
  const { client, route, idempotencyKey } = reservation;
  const request = await tx.get('request', { client, route, idempotencyKey });
  if (request) await tx.update('request', { ...request, state: revoked ? 'failed' : 'done' }, request);
  return { outcome: revoked ? 'revoked' : 'completed', replaced };
}
