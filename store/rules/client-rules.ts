import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { NewClient } from '../api/certificate-store.ts';
import {
  boundAuthorities,
  boundMunicipalities,
  type CertifiedClient,
  type ClientStore,
  type ClientTerm,
  certificatesMax,
  checkRoles,
  clientIdOf,
  type KnownClient,
  whyEnded,
} from '../api/client-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule, shared } from '../engine/rule.ts';
import { claimName, nameLoads } from './client-identity.ts';
import { insertClient, revokeClientCertificate } from './clients.ts';
import { answeredOnce } from './once.ts';
import { known, operatorLoads, type Remaining, refuseTooFew, refuseUnconfirmed } from './operators.ts';
import { rolesOf } from './views.ts';

// The rules of clients, and of their terms.

export type AddCommand = Parameters<ClientStore['add']>[0];
export type EnrolCommand = Parameters<ClientStore['enrol']>[0];
export type AddCertificateCommand = Parameters<ClientStore['addCertificate']>[0];
export type EndCertificateCommand = Parameters<ClientStore['endCertificate']>[0];
export type RenewCommand = Parameters<ClientStore['renew']>[0];
export type RebindCommand = Parameters<ClientStore['rebind']>[0];

export const clientLoads = (fingerprint: string): readonly Load[] => [
  byKey('client', { fingerprint }),
  byIndex('operationsCertificate', { fingerprint }),
  byKey('clientTerm', { fingerprint }, ({ clientId }) => [
    byKey('clientIdentity', { clientId }),
    byIndex(
      'clientTerm',
      { clientId },
      { each: (row) => [byKey('client', { fingerprint: row.fingerprint })] },
    ),
  ]),
  // One that never renewed is named by itself.
  byIndex('clientTerm', { clientId: fingerprint }),
  byKey('clientIdentity', { clientId: fingerprint }),
];

/** What is read to bind a client of that certificate and name. */
export const bindLoads = (fingerprint: string, name: string): readonly Load[] => [
  ...clientLoads(fingerprint),
  ...nameLoads({ clientId: fingerprint, name }),
];

/** Where it is checked who is left. */
const remainingLoads = (remaining: Remaining | null | undefined): readonly Load[] =>
  remaining ? operatorLoads : [];

/** Clients are few, and change rarely: one lock guards all of them. */
export const clientLocks = (): readonly Lock[] => [exclusive('clients'), shared('operations')];

export const addClient = answeredOnce<AddCommand, KnownClient>({
  action: 'addClient',
  subject: ({ client }) => {
    const { fingerprint, kind, desks } = client;
    return { fingerprint, kind, roles: rolesOf(client), desks };
  },
  locks: clientLocks,
  loads: ({ client }) => bindLoads(client.fingerprint, client.name),
  decide: ({ client, bindingEndsMs }, tx, { nowMs }) =>
    bindClient(tx, client, { nowMs, bindingEndsMs, unconfirmedSinceMs: null }),
});

export const enrolClient = answeredOnce<EnrolCommand, CertifiedClient>({
  action: 'enrolClient',
  subject: (command) => ({
    fingerprint: fingerprintIn(command),
    kind: command.client.kind,
    roles: rolesOf(command.client),
    desks: command.client.desks,
  }),
  locks: clientLocks,
  loads: (command) => bindLoads(fingerprintIn(command), command.client.name),
  decide: (command, tx, { nowMs }) => {
    const { certificate, bindingEndsMs } = command;
    const client = { ...command.client, fingerprint: fingerprintIn(command) };
    return certified(bindClient(tx, client, { nowMs, bindingEndsMs, unconfirmedSinceMs: null }), certificate);
  },
});

export const addCertificate = answeredOnce<AddCertificateCommand, CertifiedClient>({
  action: 'addClientCertificate',
  subject: (command) => ({ fingerprint: command.fingerprint, another: fingerprintIn(command) }),
  locks: clientLocks,
  loads: (command) => [...clientLoads(command.fingerprint), ...clientLoads(fingerprintIn(command))],
  decide: (command, tx, { nowMs }) => {
    const { certificate, bindingEndsMs, isAskedByItself } = command;
    const before = clientOf(tx, command.fingerprint);
    if (isAskedByItself && before.revokedMs !== null)
      throw new PkiError('unauthenticated', 'the client certificate has been shut out');
    const clientId = clientIdOf(before);
    if (!before.term) writeTerm(tx, command.fingerprint, newTerm(tx, command.fingerprint, bindingEndsMs));
    const inForce = certificatesOf(tx, clientId).filter((each) => whyEnded(each, nowMs, 0) === undefined);
    if (inForce.length >= certificatesMax)
      throw new PkiError(
        'quota-exceeded',
        `the client has ${inForce.length} certificates: end one of them first`,
      );
    const another = fingerprintIn(command);
    insertClient(tx, { ...before, fingerprint: another }, nowMs);
    const ends = before.term?.bindingEndsMs ?? bindingEndsMs;
    const { unconfirmedSinceMs = null } = before.term ?? {};
    const renews = isAskedByItself ? command.fingerprint : null;
    writeTerm(tx, another, { ...newTerm(tx, another, ends), clientId, renews, unconfirmedSinceMs });
    return certified(clientOf(tx, another), certificate);
  },
});

export const endCertificate = answeredOnce<EndCertificateCommand, KnownClient>({
  action: 'endClientCertificate',
  subject: ({ fingerprint }) => ({ fingerprint }),
  locks: clientLocks,
  loads: ({ fingerprint, remaining }) => [...clientLoads(fingerprint), ...remainingLoads(remaining)],
  decide: ({ fingerprint, of, remaining = null }, tx, { nowMs }) => {
    // To others than its own client and administrators, that of another is none.
    if (of !== null && clientIdOf(clientOf(tx, fingerprint)) !== of) throw noSuchClient();
    for (const each of descendantsOf(tx, fingerprint)) revokeClientCertificate(tx, each, nowMs);
    refuseTooFew(tx, remaining, nowMs);
    return clientOf(tx, fingerprint);
  },
});

/** A certificate, and those that were asked for under it: who stole its key may have. */
function descendantsOf(reader: RecordReader, fingerprint: string): readonly string[] {
  const all = certificatesOf(reader, clientIdOf(clientOf(reader, fingerprint)));
  const found = [fingerprint];
  for (const parent of found)
    found.push(...all.filter(({ term }) => term?.renews === parent).map((each) => each.fingerprint));
  return found;
}

export const revokeClient = answeredOnce<Parameters<ClientStore['revoke']>[0], KnownClient>({
  action: 'revokeClient',
  subject: ({ fingerprint }) => ({ fingerprint }),
  locks: clientLocks,
  loads: ({ fingerprint, remaining }) => [...clientLoads(fingerprint), ...remainingLoads(remaining)],
  decide: ({ fingerprint, remaining = null }, tx, { nowMs }) => {
    const clientId = clientIdOf(clientOf(tx, fingerprint));
    const others = tx.find('clientTerm', { clientId });
    for (const each of new Set([fingerprint, ...others.map((row) => row.fingerprint)]))
      revokeClientCertificate(tx, each, nowMs);
    refuseTooFew(tx, remaining, nowMs);
    return clientOf(tx, fingerprint);
  },
});

/** Of a command's new certificate. */
const fingerprintIn = ({ certificate }: { readonly certificate: Bytes }): string =>
  hex(digest('sha256', certificate));

const certified = (client: KnownClient, certificate: Bytes): CertifiedClient => ({
  ...client,
  certificate: Buffer.from(certificate).toString('base64'),
});

export const renewClient = answeredOnce<RenewCommand, CertifiedClient>({
  action: 'renewClient',
  subject: (command) => ({ fingerprint: command.fingerprint, successor: fingerprintIn(command) }),
  locks: clientLocks,
  loads: (command) => [...clientLoads(command.fingerprint), ...clientLoads(fingerprintIn(command))],
  decide: (command, tx, { nowMs }) => {
    const { fingerprint, certificate, oldEndsMs, bindingEndsMs } = command;
    const successor = fingerprintIn(command);
    const before = clientOf(tx, fingerprint);
    if (before.term?.renewedBy != null)
      throw new PkiError(
        'illegal-transition',
        `the certificate was renewed already, by ${before.term.renewedBy}`,
      );
    const { term } = before;
    // So that no client has more than two at a time, and a clock that is ahead makes none without end.
    if (term?.renews != null && oldEndsMs - nowMs > nowMs - before.addedMs)
      throw new PkiError('quota-exceeded', 'the certificate was renewed too lately to be renewed again');
    if (before.revokedMs !== null)
      throw new PkiError('unauthenticated', 'the client certificate has been shut out');
    const old = term ?? newTerm(tx, fingerprint, bindingEndsMs);
    insertClient(tx, { ...before, fingerprint: successor }, nowMs);
    writeTerm(tx, successor, {
      // Renewing a certificate moves no end of a binding.
      ...newTerm(tx, successor, old.bindingEndsMs ?? bindingEndsMs),
      clientId: old.clientId,
      renews: fingerprint,
      unconfirmedSinceMs: old.unconfirmedSinceMs,
    });
    writeTerm(tx, fingerprint, { ...old, endsMs: oldEndsMs, renewedBy: successor });
    return certified(clientOf(tx, successor), certificate);
  },
});

/** What a client is bound to from now on: what is named, and else what it is bound to. */
function boundAs(before: KnownClient, { named, known, municipalitiesOtherwise }: RebindCommand) {
  const { roles = before.roles, desks = before.desks } = named;
  // Who is revoker or reader no more is bound to none.
  const isOfHolders = roles.some((role) => role === 'revoker' || role === 'reader');
  const municipalities = boundMunicipalities(
    { roles, municipalities: named.municipalities ?? (isOfHolders ? before.municipalities : undefined) },
    municipalitiesOtherwise,
  );
  const kept = roles.includes('ocsp') && before.authorities.length > 0 ? before.authorities : undefined;
  const authorities = boundAuthorities(known, { roles, authorities: named.authorities ?? kept });
  return { roles, desks, authorities, municipalities };
}

export const rebindClient = answeredOnce<RebindCommand, KnownClient>({
  action: 'rebindClient',
  subject: ({ fingerprint, named }) => ({ fingerprint, ...named }),
  locks: clientLocks,
  loads: ({ fingerprint, remaining }) => [...clientLoads(fingerprint), ...remainingLoads(remaining)],
  decide: (command, tx, { nowMs }) => {
    const { fingerprint, bindingEndsMs } = command;
    const before = clientOf(tx, fingerprint);
    const bound = boundAs(before, command);
    checkRoles(before.kind, bound.roles);
    const roles = rolesOf(bound);
    const others = tx.find('clientTerm', { clientId: clientIdOf(before) });
    for (const each of new Set([fingerprint, ...others.map((row) => row.fingerprint)])) {
      const row = tx.get('client', { fingerprint: each });
      if (!row) continue;
      tx.update('client', { ...row, roles, desks: JSON.stringify(bound.desks) }, row);
      const { term } = clientOf(tx, each);
      writeTerm(tx, each, { ...(term ?? newTerm(tx, each, bindingEndsMs)), bindingEndsMs });
    }
    refuseTooFew(tx, command.remaining ?? null, nowMs);
    return clientOf(tx, fingerprint);
  },
});

export const confirmClient = answeredOnce<Parameters<ClientStore['confirm']>[0], KnownClient>({
  action: 'confirmClient',
  subject: ({ fingerprint }) => ({ fingerprint }),
  locks: clientLocks,
  loads: ({ fingerprint }) => [...clientLoads(fingerprint), ...operatorLoads],
  decide: ({ fingerprint, scope, bindingMs }, tx, { nowMs }) => {
    const { term } = clientOf(tx, fingerprint);
    if (term?.unconfirmedSinceMs == null)
      throw new PkiError('illegal-transition', 'the client does not wait to be confirmed');
    const { clientId } = term;
    if (scope.client === clientId)
      throw new PkiError('forbidden', 'an administrator is confirmed by another');
    refuseUnconfirmed(tx, scope.client, { nowMs, bindingMs });
    for (const row of tx.find('clientTerm', { clientId }))
      tx.update('clientTerm', { ...row, unconfirmedSinceMs: null }, row);
    return clientOf(tx, fingerprint);
  },
});

/** When clients last acted, by fingerprint. */
export const noteUses: Rule<readonly (readonly [fingerprint: string, lastUsedMs: number])[], void> = {
  action: 'noteUses',
  subject: () => ({}),
  locks: () => [exclusive('clients')],
  loads: (uses) => uses.map(([fingerprint]) => byKey('clientTerm', { fingerprint })),
  decide: (uses, tx) => {
    for (const [fingerprint, lastUsedMs] of uses) {
      const row = tx.get('clientTerm', { fingerprint });
      if (row) tx.update('clientTerm', { ...row, lastUsedMs }, row);
    }
  },
};

/** Binds a client certificate, with its term. */
export function bindClient(
  tx: Transaction,
  client: NewClient,
  binding: {
    readonly nowMs: number;
    readonly bindingEndsMs: number;
    readonly unconfirmedSinceMs: number | null;
  },
): KnownClient {
  const { fingerprint } = client;
  const { nowMs, bindingEndsMs, unconfirmedSinceMs } = binding;
  checkRoles(client.kind, client.roles);
  insertClient(tx, client, nowMs);
  claimName(tx, { clientId: fingerprint, name: client.name, kind: client.kind }, nowMs);
  const term = newTerm(tx, fingerprint, bindingEndsMs);
  writeTerm(tx, fingerprint, { ...term, unconfirmedSinceMs });
  return clientOf(tx, fingerprint);
}

function newTerm(reader: RecordReader, fingerprint: string, bindingEndsMs: number): ClientTerm {
  const [certificate] = reader.find('operationsCertificate', { fingerprint });
  return {
    clientId: fingerprint,
    certificateEndsMs: certificate?.notAfterMs ?? null,
    bindingEndsMs,
    endsMs: null,
    renews: null,
    renewedBy: null,
    lastUsedMs: null,
    unconfirmedSinceMs: null,
  };
}

function writeTerm(tx: Transaction, fingerprint: string, term: ClientTerm): void {
  const before = tx.get('clientTerm', { fingerprint });
  const row = { fingerprint, ...term };
  if (before) tx.update('clientTerm', row, before);
  else tx.insert('clientTerm', row);
}

export function clientOf(reader: RecordReader, fingerprint: string): KnownClient {
  const row = reader.get('client', { fingerprint });
  if (!row) throw noSuchClient();
  return known(reader, row);
}

const noSuchClient = (): PkiError => new PkiError('not-found', 'no such client');

/** All certificates of a client. */
export function certificatesOf(reader: RecordReader, clientId: string): KnownClient[] {
  const terms = reader.find('clientTerm', { clientId });
  return terms.map(({ fingerprint }) => clientOf(reader, fingerprint));
}
