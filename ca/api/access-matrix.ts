import type { ApprovalAct } from '../../core/model/approval.ts';
import { type DescribedRoute, describedRoutes } from './openapi.ts';

// Who may do what to whom, route by route: the roles as the routes have them, and here on what each acts, and which acts of it wait for a
// second person. `warifu access` prints it; docs/ACCESS.md has it written by hand, and tests hold both, and what callers meet, together.

/** On what a route acts. What is not the caller's is answered as what does not exist, but for `nation`, `service` and `verifier`. */
export const objects = {
  town: 'holders of the caller’s municipalities, or of those of its desks',
  desk: 'what its desks may do, for holders of their municipalities',
  signed: 'the holder, card or phone that has signed for it, whatever the municipality',
  own: 'what the caller has, asked for, or could ask for itself',
  nation: 'what is the nation’s, for who is bound to it',
  node: 'authorities that the node is bound to',
  verifier: 'any certificate, in the verifier’s own name',
  service: 'the service itself, no holder',
} as const;
export type AccessObject = keyof typeof objects;

type Entry = readonly [object: AccessObject, ...acts: ApprovalAct[]];

const entries: Readonly<Record<string, Entry>> = {
  'POST /card-certificates': ['desk', 'good-card', 'same-person', 'release'],
  'POST /card-certificate-batches': ['desk'],
  'POST /card-orders': ['desk', 'card-order'],
  'POST /card-challenges': ['desk'],
  'POST /phone-challenges': ['desk'],
  'POST /phone-certificates': ['signed'],
  'POST /phone-reports': ['signed'],
  'POST /phone-revocations': ['signed'],
  'POST /enrolment-codes': ['desk'],
  'POST /holders/{holderId}/notices': ['signed'],
  'POST /holders/{holderId}/notices/confirmation': ['signed'],
  'GET /holders/{holderId}/accesses': ['signed'],
  'POST /events': ['town', 'release', 'mass-revocation'],
  'POST /certificates/{authority}/{serialNumber}/changes': ['town', 'release', 'mass-revocation'],
  'POST /holders/{holderId}/corrections': ['town'],
  'GET /holders/{holderId}/corrections': ['town'],
  'POST /corrections/{correctionId}/approval': ['town'],
  'POST /corrections/{correctionId}/withdrawal': ['town'],
  'GET /certificates/{authority}/{serialNumber}': ['town'],
  'GET /certificates/{authority}/{serialNumber}/history': ['town'],
  'GET /holders/{holderId}': ['town'],
  'GET /holders/{holderId}/media': ['town'],
  'GET /holders/{holderId}/history': ['town'],
  'GET /cards/{id}': ['town'],
  'GET /phones/{id}': ['town'],
  'GET /renewals': ['town'],
  'POST /exports': ['own', 'bulk-export'],
  'POST /restrictions/preview': ['nation'],
  'POST /restrictions': ['nation'],
  'POST /restrictions/{restrictionId}/end': ['nation'],
  'POST /mass-acts/{actId}/approval': ['nation'],
  'POST /mass-acts/{actId}/withdrawal': ['nation'],
  'GET /restrictions': ['nation'],
  'GET /restrictions/{restrictionId}': ['nation'],
  'POST /blocked-keys': ['nation', 'unknown-key', 'mass-revocation'],
  'GET /certificates': ['nation'],
  'POST /certificates/{authority}/{serialNumber}/holder': ['nation'],
  'GET /outbox': ['nation'],
  'POST /outbox/{messageId}/replay': ['nation'],
  'POST /orders/{messageId}/confirmation': ['nation'],
  'POST /issuances/{issuanceId}/storage': ['nation'],
  'POST /certificates/{authority}/{serialNumber}/watches': ['verifier'],
  'POST /certificates/{authority}/{serialNumber}/watches/end': ['own'],
  'POST /watches': ['verifier'],
  'GET /watches': ['own'],
  'POST /verifier-notices': ['own'],
  'POST /watch-intakes': ['own'],
  'POST /watch-intakes/{intakeId}/entries': ['own'],
  'POST /watch-intakes/{intakeId}/sample': ['own'],
  'POST /watch-intakes/{intakeId}/signatures': ['own'],
  'GET /watch-intakes': ['own'],
  'GET /watch-intakes/{intakeId}': ['own'],
  'POST /watch-intakes/{intakeId}/acceptance': ['service', 'verifier-rights'],
  'POST /watch-intakes/{intakeId}/end': ['own'],
  'POST /certificate-links': ['verifier'],
  'POST /certificates/{authority}/{serialNumber}/uses': ['verifier'],
  'POST /consent-challenges': ['verifier'],
  'POST /consents': ['signed'],
  'POST /consents/{consentId}/withdrawal': ['town'],
  'GET /holders/{holderId}/consents': ['town'],
  'POST /holders/{holderId}/withholding': ['town', 'end-withholding'],
  'POST /latest-basic-four': ['verifier'],
  'POST /responder-certificates': ['node'],
  'GET /feed': ['service'],
  'POST /feed': ['service'],
  'GET /feed/snapshot': ['service'],
  'GET /feed/crls': ['service'],
  'GET /feed/crl': ['service'],
  'GET /feed/epochs/{authority}/{epoch}': ['service'],
  'GET /proposals': ['own'],
  'GET /proposals/{proposalId}': ['own'],
  'POST /proposals/{proposalId}/approval': ['own'],
  'POST /proposals/{proposalId}/withdrawal': ['own'],
  'POST /proposal-approvals': ['own'],
  'POST /client-certificates': ['own'],
  'POST /client-certificates/{fingerprint}/revocation': ['own'],
  'GET /clients': ['service'],
  'POST /clients': ['service', 'client-rights'],
  'POST /clients/{fingerprint}/binding': ['service', 'client-rights'],
  'POST /clients/{fingerprint}/certificates': ['service', 'client-rights'],
  'POST /clients/{fingerprint}/confirmation': ['service'],
  'POST /clients/{fingerprint}/revocation': ['service'],
  'GET /desks': ['service'],
  'POST /desks': ['service', 'desk-rights'],
  'POST /desks/{deskCode}/suspension': ['service'],
  'POST /desks/{deskCode}/resumption': ['service', 'desk-rights'],
  'GET /verifiers': ['service'],
  'GET /verifiers/{verifierId}': ['service'],
  'POST /verifiers': ['service', 'verifier-rights'],
  'POST /verifiers/{verifierId}': ['service', 'verifier-rights'],
  'POST /verifiers/{verifierId}/suspension': ['service'],
  'POST /verifiers/{verifierId}/resumption': ['service', 'verifier-rights'],
  'POST /verifiers/{verifierId}/credentials': ['service', 'verifier-rights'],
  'POST /verifiers/{verifierId}/credentials/{credentialId}/end': ['service'],
  'GET /switches': ['service'],
  'POST /switches/{name}': ['service'],
  'GET /configuration': ['service'],
  'POST /configuration': ['service', 'configuration'],
  'GET /clock': ['service'],
  'POST /clock/corrections': ['service'],
  'POST /clock/corrections/{correctionId}/approval': ['service'],
  'GET /caller': ['own'],
  'GET /openapi.json': ['service'],
  'GET /problems': ['service'],
  'GET /service': ['service'],
  'GET /crls': ['service'],
  'GET /health': ['service'],
};

/** One route as the matrix has it. */
export interface AccessRow {
  readonly route: string;
  /** None: any client. */
  readonly roles: readonly string[];
  readonly object: AccessObject;
  /** What waits for a second person. */
  readonly acts: readonly string[];
  /** Whether it reads about holders: with a purpose, and on record. */
  readonly reads: DescribedRoute['reads'];
}

/** Every route, in the order of the table. Throws where a route has no entry, or an entry no route. */
export async function accessMatrix(): Promise<readonly AccessRow[]> {
  const routes = new Map((await describedRoutes()).map((each) => [each.route, each]));
  const unknown = [...routes.keys()].find((route) => !Object.hasOwn(entries, route));
  if (unknown !== undefined) throw new Error(`the matrix of access says nothing of ${unknown}`);
  return Object.entries(entries).map(([route, [object, ...acts]]) => {
    const found = routes.get(route);
    if (!found) throw new Error(`the matrix of access has ${route}, which is no route`);
    return { route, roles: found.roles, object, acts, reads: found.reads };
  });
}

/** The matrix as a table of Markdown. */
export function printAccess(matrix: readonly AccessRow[]): string {
  const code = (text: string): string => `\`${text}\``;
  const rows = matrix.map(({ route, roles, object, acts, reads }) =>
    [
      code(route),
      roles.length === 0 ? 'any' : roles.join(', '),
      code(object),
      acts.length === 0 ? '' : acts.map(code).join(', '),
      { always: 'purpose', 'dry-run': 'a dry run', never: '' }[reads],
    ].join(' | '),
  );
  const head = ['| route | roles | on | waits for a second person | reads |', '|---|---|---|---|---|'];
  return `${[...head, ...rows.map((row) => `| ${row} |`)].join('\n')}\n`;
}
