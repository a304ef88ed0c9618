import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, NewClient } from '../api/certificate-store.ts';
import {
  boundAuthorities,
  type ClientStore,
  type ClientTerm,
  clientIdOf,
  type KnownClient,
  type OperationsDraft,
  type RenewedClient,
  type ReservedOperations,
} from '../api/client-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { insertClient, revokeClientCertificate } from './clients.ts';
import { answeredOnce } from './once.ts';
import { clientView, rolesOf } from './views.ts';

// The rules of clients, their terms, and what the operations CA signs.

export type AddCommand = Parameters<ClientStore['add']>[0];
export type RenewCommand = Parameters<ClientStore['renew']>[0];
export type RebindCommand = Parameters<ClientStore['rebind']>[0];

export const reserveOperations: Rule<OperationsDraft, ReservedOperations> = {
  action: 'reserveOperations',
  subject: ({ serialNumber, kind }) => ({ serialNumber, kind }),
  locks: () => [exclusive('operations'), shared('clients')],
  loads: ({ keyHash }) => [
    byIndex(
      'operationsCertificate',
      { keyHash },
      { each: ({ fingerprint }) => (fingerprint === null ? [] : [byKey('client', { fingerprint })]) },
    ),
  ],
  decide: (draft, tx, { nowMs }) => {
    const [before] = tx.find('operationsCertificate', { keyHash: draft.keyHash });
    if (!before) {
      tx.insert('operationsCertificate', { ...draft, signature: null, fingerprint: null, createdMs: nowMs });
      return { serialNumber: draft.serialNumber, toBeSigned: draft.toBeSigned, signature: null };
    }
    const { kind, commonName, notAfterMs, fingerprint, serialNumber, toBeSigned, signature } = before;
    const isBound = fingerprint !== null && tx.get('client', { fingerprint }) !== undefined;
    const isRepetition = kind === 'tls-client' && kind === draft.kind && commonName === draft.commonName;
    if (!isRepetition || isBound || notAfterMs <= nowMs)
      throw new PkiError('already-certified', 'the operations CA has certified that public key before');
    return { serialNumber, toBeSigned, signature };
  },
};

export const completeOperations: Rule<
  { readonly serialNumber: string; readonly signature: Bytes; readonly fingerprint: string },
  void
> = {
  action: 'completeOperations',
  subject: ({ serialNumber }) => ({ serialNumber }),
  locks: () => [exclusive('operations')],
  loads: ({ serialNumber }) => [byKey('operationsCertificate', { serialNumber })],
  decide: ({ serialNumber, signature, fingerprint }, tx) => {
    const row = tx.get('operationsCertificate', { serialNumber });
    if (!row) throw new Error('a certificate of the operations CA that was never reserved');
    tx.update('operationsCertificate', { ...row, signature, fingerprint }, row);
  },
};

const clientLoads = (fingerprint: string): readonly Load[] => [
  byKey('client', { fingerprint }),
  byIndex('operationsCertificate', { fingerprint }),
  byKey('clientTerm', { fingerprint }, ({ clientId }) => [
    byIndex(
      'clientTerm',
      { clientId },
      { each: (row) => [byKey('client', { fingerprint: row.fingerprint })] },
    ),
  ]),
  // One that never renewed is named by itself.
  byIndex('clientTerm', { clientId: fingerprint }),
];

/** Clients are few, and change rarely: one lock guards all of them. */
const clientLocks = (): readonly Lock[] => [exclusive('clients'), shared('operations')];

export const addClient = answeredOnce<AddCommand, KnownClient>({
  action: 'addClient',
  subject: ({ client }) => ({ fingerprint: client.fingerprint, roles: rolesOf(client), desks: client.desks }),
  locks: clientLocks,
  loads: ({ client }) => clientLoads(client.fingerprint),
  decide: ({ client, bindingEndsMs }, tx, { nowMs }) =>
    bindClient(tx, client, { nowMs, bindingEndsMs, unconfirmedSinceMs: null }),
});

export const revokeClient = answeredOnce<Parameters<ClientStore['revoke']>[0], KnownClient>({
  action: 'revokeClient',
  subject: ({ fingerprint }) => ({ fingerprint }),
  locks: clientLocks,
  loads: ({ fingerprint }) => clientLoads(fingerprint),
  decide: ({ fingerprint }, tx, { nowMs }) => {
    const clientId = clientIdOf(clientOf(tx, fingerprint));
    const others = tx.find('clientTerm', { clientId });
    for (const each of new Set([fingerprint, ...others.map((row) => row.fingerprint)]))
      revokeClientCertificate(tx, each, nowMs);
    return clientOf(tx, fingerprint);
  },
});

const successorOf = ({ certificate }: RenewCommand): string => hex(digest('sha256', certificate));

export const renewClient = answeredOnce<RenewCommand, RenewedClient>({
  action: 'renewClient',
  subject: (command) => ({ fingerprint: command.fingerprint, successor: successorOf(command) }),
  locks: clientLocks,
  loads: (command) => [...clientLoads(command.fingerprint), ...clientLoads(successorOf(command))],
  decide: (command, tx, { nowMs }) => {
    const { fingerprint, certificate, oldEndsMs, bindingEndsMs } = command;
    const successor = successorOf(command);
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
    return { ...clientOf(tx, successor), certificate: Buffer.from(certificate).toString('base64') };
  },
});

/** What a client is bound to from now on: what is named, and else what it is bound to. */
function boundAs(before: KnownClient, { named, known }: RebindCommand) {
  const { roles = before.roles, desks = before.desks } = named;
  const kept = roles.includes('ocsp') && before.authorities.length > 0 ? before.authorities : undefined;
  const authorities = boundAuthorities(known, { roles, authorities: named.authorities ?? kept });
  return { roles, desks, authorities };
}

export const rebindClient = answeredOnce<RebindCommand, KnownClient>({
  action: 'rebindClient',
  subject: ({ fingerprint, named }) => ({ fingerprint, ...named }),
  locks: clientLocks,
  loads: ({ fingerprint }) => clientLoads(fingerprint),
  decide: (command, tx) => {
    const { fingerprint, bindingEndsMs } = command;
    const before = clientOf(tx, fingerprint);
    const bound = boundAs(before, command);
    const roles = rolesOf({ fingerprint, name: before.name, ...bound });
    const others = tx.find('clientTerm', { clientId: clientIdOf(before) });
    for (const each of new Set([fingerprint, ...others.map((row) => row.fingerprint)])) {
      const row = tx.get('client', { fingerprint: each });
      if (!row) continue;
      tx.update('client', { ...row, roles, desks: JSON.stringify(bound.desks) }, row);
      const { term } = clientOf(tx, each);
      writeTerm(tx, each, { ...(term ?? newTerm(tx, each, bindingEndsMs)), bindingEndsMs });
    }
    return clientOf(tx, fingerprint);
  },
});

export const confirmClient = answeredOnce<Parameters<ClientStore['confirm']>[0], KnownClient>({
  action: 'confirmClient',
  subject: ({ fingerprint }) => ({ fingerprint }),
  locks: clientLocks,
  loads: ({ fingerprint }) => clientLoads(fingerprint),
  decide: ({ fingerprint, scope }, tx) => {
    const { term } = clientOf(tx, fingerprint);
    if (term?.unconfirmedSinceMs == null)
      throw new PkiError('illegal-transition', 'the client does not wait to be confirmed');
    const { clientId } = term;
    if (scope.client === clientId)
      throw new PkiError('forbidden', 'an administrator is confirmed by another');
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
  insertClient(tx, client, nowMs);
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

function clientOf(reader: RecordReader, fingerprint: string): KnownClient {
  const row = reader.get('client', { fingerprint });
  if (!row) throw new PkiError('not-found', 'no such client');
  return known(reader, row);
}

export function known(reader: RecordReader, row: Row<'client'>): KnownClient {
  const found = reader.get('clientTerm', { fingerprint: row.fingerprint });
  if (!found) return { ...clientView(row), term: null };
  const { fingerprint: _, ...term } = found;
  return { ...clientView(row), term };
}

/** A certificate without a recorded end was issued by an earlier version, and lasts as long as those did. */
const lifeOfEarlier = 90 * 86_400_000;

interface ConsoleBinding {
  readonly actor: Actor;
  readonly client: NewClient;
  readonly bindingMs: number;
}

const consoleClient: Rule<ConsoleBinding, void> = {
  action: 'breakGlass',
  actor: ({ actor }) => actor,
  subject: ({ client }) => ({ fingerprint: client.fingerprint, roles: rolesOf(client) }),
  locks: clientLocks,
  loads: ({ client: { fingerprint } }) => [
    byIndex('client', {}),
    byIndex('clientTerm', {}),
    ...clientLoads(fingerprint),
  ],
  decide: ({ client, bindingMs }, tx, { nowMs }) => {
    for (const row of tx.find('client', {})) {
      const { roles, name, fingerprint, addedMs, revokedMs, term } = known(tx, row);
      if (!roles.includes('administrator') || revokedMs !== null) continue;
      const ends = [
        term?.certificateEndsMs ?? addedMs + lifeOfEarlier,
        term?.bindingEndsMs ?? addedMs + bindingMs,
        term?.endsMs ?? Number.POSITIVE_INFINITY,
      ];
      if (Math.min(...ends) > nowMs)
        throw new PkiError(
          'in-use',
          `the administrator ${name} (${fingerprint.slice(0, 16)}…) can act: POST /v1/clients binds a client`,
        );
    }
    bindClient(tx, client, { nowMs, bindingEndsMs: nowMs + bindingMs, unconfirmedSinceMs: nowMs });
  },
};

/**
 * Binds an administrator at the console, where no administrator can act any more; the client waits to be confirmed by another.
 * `in-use` while one can.
 */
export function breakGlass(
  database: RecordDatabase,
  client: NewClient,
  { nowMs, bindingMs }: { readonly nowMs: number; readonly bindingMs: number },
): Promise<void> {
  const actor = { client: `node:${database.writer}`, role: 'console', requestId: '' };
  return database.run(consoleClient, { actor, client, bindingMs }, nowMs);
}

/** Administrators that were bound at the console and are not confirmed. */
export function unconfirmed(database: RecordDatabase): Promise<readonly string[]> {
  return database.read((reader) => {
    const rows = reader.find('clientTerm', {});
    return rows.filter((row) => row.unconfirmedSinceMs !== null).map(({ fingerprint }) => fingerprint);
  });
}

const firstClient: Rule<ConsoleBinding, void> = {
  action: 'addClient',
  actor: ({ actor }) => actor,
  subject: ({ client: { fingerprint, roles } }) => ({ fingerprint, roles }),
  locks: clientLocks,
  loads: ({ client: { fingerprint } }) => clientLoads(fingerprint),
  decide: ({ client, bindingMs }, tx, { nowMs }) => {
    bindClient(tx, client, { nowMs, bindingEndsMs: nowMs + bindingMs, unconfirmedSinceMs: null });
  },
};

/** Binds the very first client, before there is one that could ask for it. */
export function recordFirstClient(
  database: RecordDatabase,
  actor: Actor,
  client: Pick<NewClient, 'fingerprint' | 'name' | 'roles'>,
  { nowMs, bindingMs }: { readonly nowMs: number; readonly bindingMs: number },
): Promise<void> {
  const bound = { ...client, desks: ['*'], authorities: [] };
  return database.run(firstClient, { actor, client: bound, bindingMs }, nowMs);
}
