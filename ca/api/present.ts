import { hex } from '../../core/bytes.ts';
import type { Cause, CertificateView, Client, Plan, PlannedChange } from '../../core/certificate-store.ts';
import type { CertificateKey } from '../../core/feed.ts';
import type { CertificateStatus } from '../../core/revocation.ts';
import type { Authorities } from '../authority.ts';
import type { CertificateAuthority } from '../issue.ts';
import { openCertificate } from '../phone.ts';

// The record's rows as the API shows them.

export const instant = (ms: number): string => new Date(ms).toISOString();
const maybeInstant = (ms: number | null): string | null => (ms === null ? null : instant(ms));

export function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

export function reference(authorities: Authorities, key: CertificateKey) {
  const authority = authorities.byName(key.authority);
  return { authority: key.authority, serialNumber: hex(authority.serialOf(key)) };
}

export function status({ state, reason, revokedMs, invalidityMs }: CertificateStatus) {
  return { state, reason, revokedAt: maybeInstant(revokedMs), invalidityDate: maybeInstant(invalidityMs) };
}

export function cause(authorities: Authorities, { event, cascadedFrom }: Cause) {
  return { event, cascadedFrom: cascadedFrom && reference(authorities, cascadedFrom) };
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

export function changed(
  authorities: Authorities,
  dryRun: boolean,
  changes: readonly PlannedChange[],
  orders: Plan['orders'],
) {
  return {
    dryRun,
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
  };
}

export function client({ fingerprint, name, roles, desks, addedMs, revokedMs }: Client) {
  return { fingerprint, name, roles, desks, addedAt: instant(addedMs), revokedAt: maybeInstant(revokedMs) };
}

/** The answer to an issuance, made of what is on record, so that a replay is the same. */
export async function issued(ca: CertificateAuthority, issuanceId: string) {
  const views = await ca.store.issuance(issuanceId);
  const certificates = await Promise.all(
    views.map(async (view) => {
      const der = await openCertificate(ca, view);
      return {
        kind: view.kind,
        ...reference(ca.authorities, view),
        notBefore: instant(view.notBeforeMs),
        notAfter: instant(view.notAfterMs),
        certificate: der ? pem(der) : '',
      };
    }),
  );
  // Signing first, whatever order the record keeps.
  certificates.sort((a, b) => (a.kind < b.kind ? 1 : -1));
  return { issuanceId, holderId: views[0]?.holderId ?? '', certificates };
}
