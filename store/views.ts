import type { CertificateView, Client, Medium } from '../core/certificate-store.ts';
import type { CertificateKey } from '../core/feed.ts';
import type { CertificateKind, MediumType } from '../core/kinds.ts';
import type { CertificateState, Holding, RecordedStatus, RevocationReason } from '../core/revocation.ts';
import type { Row } from './schema.ts';

// Rows as the rest of the project sees them. What the record holds was checked when it was written.

export const keyOf = ({ authority, epoch, position }: CertificateKey): CertificateKey => ({
  authority,
  epoch,
  position,
});

export function statusOf(row: Row<'certificate'>): RecordedStatus {
  return {
    heldBy: row.heldBy === null ? [] : (row.heldBy.split(' ') as Holding[]),
    state: row.state as CertificateState,
    reason: row.reason as RevocationReason | null,
    revokedMs: row.revokedMs,
    invalidityMs: row.invalidityMs,
  };
}

export function certificateView(row: Row<'certificate'>): CertificateView {
  const { restsOnAuthority: authority, restsOnEpoch: epoch, restsOnPosition: position } = row;
  return {
    ...keyOf(row),
    ...statusOf(row),
    kind: row.kind as CertificateKind,
    holderId: row.holderId,
    mediumId: row.mediumId,
    issuanceId: row.issuanceId,
    version: row.version,
    notBeforeMs: row.notBeforeMs,
    notAfterMs: row.notAfterMs,
    shard: row.shard,
    restsOn:
      authority !== null && epoch !== null && position !== null ? { authority, epoch, position } : null,
  };
}

export function mediumView({ createdMs: _, ...row }: Row<'medium'>): Medium {
  return { ...row, type: row.type as MediumType };
}

export function clientView(row: Row<'client'>): Client {
  return { ...row, roles: JSON.parse(row.roles) as string[], desks: JSON.parse(row.desks) as string[] };
}
