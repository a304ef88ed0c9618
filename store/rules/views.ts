import { keyOf } from '../../core/model/certificate-id.ts';
import type { CertificateKind } from '../../core/model/kinds.ts';
import { effectiveStatus } from '../../core/model/restriction.ts';
import { type HoldSource, type RecordedStatus, statusIn } from '../../core/model/revocation.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView, Client, Medium, NewClient, Phone } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { restrictedStatus } from './device-classes.ts';

// Rows as the rest of the project sees them. What the record holds was checked when it was written.

/** What is recorded of a certificate itself, whatever restricts its phone. */
export function ownStatusOf(
  row: Pick<Row<'certificate'>, 'state' | 'reason' | 'revokedMs' | 'invalidityMs' | 'heldBy'>,
): RecordedStatus {
  return { ...statusIn(row), heldBy: row.heldBy === null ? [] : (row.heldBy.split(' ') as HoldSource[]) };
}

/** A certificate's status. Reads what `statusLoads` names. */
export const statusOf = (reader: RecordReader, row: Row<'certificate'>): RecordedStatus =>
  effectiveStatus(ownStatusOf(row), restrictedStatus(reader, row), row.notAfterMs);

/** Whether a certificate may be relied on now. Reads what `statusLoads` names. */
export const isGoodNow = (reader: RecordReader, row: Row<'certificate'>, nowMs: number): boolean =>
  row.state === 'good' && row.notAfterMs > nowMs && statusOf(reader, row).state === 'good';

/** Reads what `statusLoads` names. */
export function certificateView(reader: RecordReader, row: Row<'certificate'>): CertificateView {
  const { restsOnAuthority: authority, restsOnEpoch: epoch, restsOnPosition: position } = row;
  return {
    ...keyOf(row),
    ...statusOf(reader, row),
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

export function mediumView(row: Row<'medium'>): Medium {
  if (row.type === 'phone') return phoneView(row);
  const { mediumId, holderId, expiresMs } = row;
  if (row.type !== 'card') throw altered(`a medium of type ${row.type}`);
  const noFacts = { platform: null, model: null, osVersion: null, secureElement: null, patchLevel: null };
  return { type: 'card', mediumId, holderId, expiresMs, restsOn: null, ...noFacts };
}

function phoneView({ createdMs: _, ...row }: Row<'medium'>): Phone {
  invariant(row.type === 'phone', 'only a phone has facts of a phone');
  return { ...row, type: row.type };
}

const altered = (what: string): PkiError =>
  new PkiError('record-unavailable', `the record was altered: ${what}`);

/** A list of texts that a column holds as JSON. */
function textsIn(column: string): string[] {
  try {
    return JSON.parse(column) as string[];
  } catch {
    throw altered('a list of roles or desks is not JSON');
  }
}

/** What a role may be bound to. A role without a binding, from before there were any, is bound to all. */
const bindingOf: Readonly<Record<string, 'authorities' | 'municipalities'>> = {
  ocsp: 'authorities',
  revoker: 'municipalities',
  reader: 'municipalities',
};

/** A role that is bound stands in the row once for each that it is bound to: `ocsp:signing-1`, `reader:13113`. */
export function clientView(row: Row<'client'>): Client {
  const bindings = textsIn(row.roles).map((text) => {
    const [role = '', bound] = text.split(':');
    const what = bindingOf[role];
    return { role, what, bound: bound ?? (what === undefined ? undefined : '*') };
  });
  const boundTo = (what: 'authorities' | 'municipalities'): string[] => [
    ...new Set(bindings.flatMap((binding) => (binding.what === what ? (binding.bound ?? []) : []))),
  ];
  return {
    ...row,
    roles: [...new Set(bindings.map(({ role }) => role))],
    desks: textsIn(row.desks),
    authorities: boundTo('authorities'),
    municipalities: boundTo('municipalities'),
  };
}

/** Roles as a client's row has them. */
export function rolesOf(
  client: Pick<NewClient, 'roles'> & {
    readonly authorities?: readonly string[] | undefined;
    readonly municipalities?: readonly string[] | undefined;
  },
): string {
  const bound = client.roles.flatMap((role) => {
    const what = bindingOf[role];
    const to = what === undefined ? [] : (client[what] ?? []);
    // A role without a binding is bound to all.
    const isOfAll = what === 'municipalities' && to.includes('*');
    return to.length > 0 && !isOfAll ? to.map((name) => `${role}:${name}`) : [role];
  });
  return JSON.stringify(bound);
}
