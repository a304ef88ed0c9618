import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { LifeEvent, Standing } from '../../core/model/holder-life.ts';
import type { Consequence } from '../../core/model/plan.ts';
import type { RecordedStatus } from '../../core/model/revocation.ts';
import type { Warning } from '../../core/node/warnings.ts';
import { hex, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  Cause,
  CertificateView,
  ChangeOutcome,
  HistoryEntry,
} from '../../store/api/certificate-store.ts';
import { type CertifiedClient, clientIdOf, type KnownClient } from '../../store/api/client-store.ts';
import type { BulkOperation, Restriction, Switch } from '../../store/api/operations-store.ts';
import type { Proposal } from '../../store/api/proposal-store.ts';
import { planHash } from '../../store/rules/policy/plan-hash.ts';
import type { Authorities } from '../issue/authority.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { openCertificate } from '../issue/enrolling-card.ts';
import type { Issuance } from '../issue/issuance.ts';

// The record's rows as the API shows them.

export const instant = (ms: number): string => new Date(ms).toISOString();
export const maybeInstant = (ms: number | null): string | null => (ms === null ? null : instant(ms));

export function pem(der: Uint8Array, label = 'CERTIFICATE'): string {
  const text = view(der).toString('base64');
  let lines = '';
  for (let at = 0; at < text.length; at += 64) lines += `${text.slice(at, at + 64)}\n`;
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`;
}

export function reference(authorities: Authorities, key: CertificateId) {
  const authority = authorities.byName(key.authority);
  return { authority: key.authority, serialNumber: hex(authority.serialOf(key)) };
}

export function status({ state, reason, revokedMs, invalidityMs, heldBy }: RecordedStatus) {
  return {
    state,
    reason,
    revokedAt: maybeInstant(revokedMs),
    invalidityDate: maybeInstant(invalidityMs),
    heldBy: [...heldBy],
  };
}

export function cause(authorities: Authorities, { event, cascadedFrom, partOf, occurredMs }: Cause) {
  return {
    event,
    cascadedFrom: cascadedFrom && reference(authorities, cascadedFrom),
    partOf,
    occurredAt: maybeInstant(occurredMs ?? null),
  };
}

export function certificate(authorities: Authorities, view: CertificateView) {
  return {
    ...reference(authorities, view),
    kind: view.kind,
    holderId: view.holderId,
    mediumId: view.mediumId,
    status: status(view),
    notBefore: instant(view.notBeforeMs),
    notAfter: instant(view.notAfterMs),
    restsOn: view.restsOn && reference(authorities, view.restsOn),
  };
}

type Presenting = Pick<CertificateAuthority, 'authorities'>;

/** What an act would do. */
export const planned = (ca: Presenting, consequence: Consequence) => ({
  ...worked(ca, consequence),
  dryRun: true,
  knownEverywhereBy: null,
});

/** What an act did then. */
export function changed(ca: Presenting, outcome: ChangeOutcome) {
  const isNews = outcome.changes.some(({ to }) => to.state !== 'good');
  return {
    ...worked(ca, outcome),
    dryRun: false,
    knownEverywhereBy: isNews ? instant(Math.ceil(outcome.knownByMs / 1000) * 1000) : null,
  };
}

function worked({ authorities }: Presenting, consequence: Consequence) {
  const { changes, orders, reissue, standing, confirmed, lastDay } = consequence;
  return {
    planHash: planHash(consequence),
    reissue: [...reissue],
    changes: changes.map((change) => ({
      ...reference(authorities, change),
      kind: change.kind,
      from: status(change.from),
      to: status(change.to),
      cause: cause(authorities, change.cause),
    })),
    orders: orders.map(({ type, mediumId, ...key }) => ({
      type,
      deviceId: mediumId.slice('phone:'.length),
      ...reference(authorities, key),
    })),
    standing: standing ?? null,
    confirmed: (confirmed ?? []).map(({ issuanceId }) => issuanceId),
    cardExpiresAt: maybeInstant(lastDay?.toMs ?? null),
  };
}

export function historyEntry(
  authorities: Authorities,
  { atMs, change, reason, cause: why, actor, ...key }: HistoryEntry,
) {
  return {
    at: instant(atMs),
    ...reference(authorities, key),
    change,
    reason,
    cause: cause(authorities, why),
    actor,
  };
}

/** Whether a holder is issued to. */
export const standing = ({ closedBy, reopens, signingBarredBy }: Standing) => ({
  closedBy,
  reopens,
  signingBarredBy,
});

/** What was reported of a holder, with both of its times. */
export function lifeEvent({
  event,
  mediumId,
  occurredMs,
  recordedMs,
  eventId,
  issuanceId,
  actor,
}: LifeEvent) {
  return {
    event,
    mediumId,
    eventId,
    at: instant(recordedMs),
    occurredAt: instant(occurredMs),
    issuanceId,
    actor,
  };
}

export function restriction({ createdMs, match, acts, ...others }: Restriction) {
  const named = Object.entries(match).filter(([, value]) => value !== null);
  return {
    ...others,
    match: Object.fromEntries(named) as { platform: string },
    createdAt: instant(createdMs),
    acts: acts.map(massAct),
  };
}

function massAct({ restrictionId: _, proposedMs, approvedMs, finishedMs, ...act }: BulkOperation) {
  return {
    ...act,
    proposedAt: instant(proposedMs),
    approvedAt: maybeInstant(approvedMs),
    finishedAt: maybeInstant(finishedMs),
  };
}

export function functionSwitch({ name, state, perMinute, note, changedMs, changedBy }: Switch) {
  return { name, state, perMinute, note, changedAt: maybeInstant(changedMs), changedBy };
}

export function client(known: KnownClient) {
  const { fingerprint, name, kind, roles, desks, authorities, addedMs, revokedMs, term } = known;
  const bound = { fingerprint, name, roles: [...roles], desks: [...desks], authorities: [...authorities] };
  const { renews = null, renewedBy = null } = term ?? {};
  return {
    ...bound,
    municipalities: [...(known.municipalities ?? [])],
    clientId: clientIdOf(known),
    kind,
    addedAt: instant(addedMs),
    revokedAt: maybeInstant(revokedMs),
    certificateEndsAt: maybeInstant(term?.certificateEndsMs ?? null),
    bindingEndsAt: maybeInstant(term?.bindingEndsMs ?? null),
    endsAt: maybeInstant(term?.endsMs ?? null),
    renews,
    renewedBy,
    lastUsedAt: maybeInstant(term?.lastUsedMs ?? null),
    unconfirmedSince: maybeInstant(term?.unconfirmedSinceMs ?? null),
  };
}

export function proposal({ plan, desk, proposedMs, expiresMs, approvedMs, settledMs, ...known }: Proposal) {
  const { municipalities } = known;
  return {
    ...known,
    municipalities: [...municipalities],
    plan: JSON.parse(plan) as object,
    deskCode: desk,
    proposedAt: instant(proposedMs),
    expiresAt: instant(expiresMs),
    approvedAt: maybeInstant(approvedMs),
    settledAt: maybeInstant(settledMs),
  };
}

/** A client with its new certificate. */
export const certifiedClient = ({ certificate, ...known }: CertifiedClient) => ({
  ...client(known),
  certificate: pem(Buffer.from(certificate, 'base64')),
});

export const warning = ({ kind, about, atMs, act }: Warning) => ({
  kind,
  about,
  at: maybeInstant(atMs),
  act,
});

/** An issuance as it is on record. */
export async function recordedIssuance(ca: CertificateAuthority, issuanceId: string): Promise<Issuance> {
  const { certificates: views, replaced, isAwaited } = await ca.store.issuance(issuanceId);
  const certificates = await Promise.all(
    views.map(async (view) => {
      const certificate = view.state === 'reserved' ? undefined : await openCertificate(ca, view);
      // Not signed yet, though it may have been held or revoked already.
      if (!certificate) throw new PkiError('request-in-progress', 'the certificates are being issued');
      return { ...view, certificate };
    }),
  );
  const [first] = views;
  if (!first) throw new PkiError('record-unavailable', 'the record has lost an issuance: it was altered');
  return { issuanceId, holderId: first.holderId, certificates, replaced, isAwaited };
}

/** The answer to an issuance: the same, whether it has just been issued or is on record. */
export function issued(authorities: Authorities, issuance: Issuance) {
  const { issuanceId, holderId, certificates, replaced, isAwaited } = issuance;
  const shown = certificates.map((each) => ({
    kind: each.kind,
    ...reference(authorities, each),
    notBefore: instant(each.notBeforeMs),
    notAfter: instant(each.notAfterMs),
    certificate: pem(each.certificate),
  }));
  // Signing first, whatever order the record keeps.
  shown.sort((a, b) => (a.kind < b.kind ? 1 : -1));
  return {
    issuanceId,
    holderId: holderId ?? '',
    certificates: shown,
    replaced: replaced.map((key) => reference(authorities, key)),
    awaited: isAwaited,
  };
}

/** The certificates of an issuance, as the TSM is to store them: each with its kind, PEM. */
export async function certificatesToStore(ca: CertificateAuthority, issuanceId: string): Promise<object[]> {
  const { certificates } = await ca.store.issuance(issuanceId);
  const found = await Promise.all(
    certificates.map(async (view) => {
      const certificate = await openCertificate(ca, view);
      return (
        certificate && { ...reference(ca.authorities, view), kind: view.kind, certificate: pem(certificate) }
      );
    }),
  );
  return found.filter((each) => each !== undefined);
}
