import { keyOf } from '../../core/model/certificate-id.ts';
import type { CertificateKind, MediumType } from '../../core/model/kinds.ts';
import { type HoldSource, type RecordedStatus, statusIn } from '../../core/model/revocation.ts';
import type { CertificateView, Client, Medium, NewClient } from '../api/certificate-store.ts';
import type { Row } from '../schema/schema.ts';

// Rows as the rest of the project sees them. What the record holds was checked when it was written.

export function statusOf(row: Row<'certificate'>): RecordedStatus {
  return { ...statusIn(row), heldBy: row.heldBy === null ? [] : (row.heldBy.split(' ') as HoldSource[]) };
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

/**
 * A role that is bound to authorities stands in the row once for each: `ocsp:signing-1`. One from before there were such
 * bindings is bound to all.
 */
export function clientView(row: Row<'client'>): Client {
  const bindings = (JSON.parse(row.roles) as string[]).map((text) => {
    const [role = '', authority] = text.split(':');
    return { role, authority: authority ?? (role === 'ocsp' ? '*' : undefined) };
  });
  return {
    ...row,
    roles: [...new Set(bindings.map(({ role }) => role))],
    desks: JSON.parse(row.desks) as string[],
    authorities: bindings.flatMap(({ authority }) => authority ?? []),
  };
}

/** Roles as a client's row has them. */
export function rolesOf({ roles, authorities = [] }: NewClient): string {
  const bound = roles.flatMap((role) =>
    role === 'ocsp' && authorities.length > 0 ? authorities.map((name) => `${role}:${name}`) : [role],
  );
  return JSON.stringify(bound);
}
