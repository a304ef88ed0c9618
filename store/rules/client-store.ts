import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, NewClient } from '../api/certificate-store.ts';
import {
  type ClientStore,
  type ClientTerm,
  clientIdOf,
  type KnownClient,
  type OperationsDraft,
} from '../api/client-store.ts';
import type { OperatorCommand } from '../api/operations-store.ts';
import type { Deed, RecordDatabase, RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { insertClient, shutOut } from './clients.ts';
import { writeOnce } from './requests.ts';
import { clientView, rolesOf } from './views.ts';

/** Clients and their terms, and what the operations CA signs, over any `RecordDatabase`. */
export class RecordClients implements ClientStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  async reserve(draft: OperationsDraft): Promise<void> {
    const { serialNumber, kind, keyHash } = draft;
    await this.#database.write(this.#ownDeed('reserveOperations', { serialNumber, kind }), (tx) => {
      if (tx.find('operationsCertificate', { keyHash }).length > 0)
        throw new PkiError('already-certified', 'the operations CA has certified that public key before');
      const createdMs = this.#clock.wallMs();
      tx.insert('operationsCertificate', { ...draft, signature: null, fingerprint: null, createdMs });
    });
  }

  async complete(serialNumber: string, signature: Bytes, fingerprint: string): Promise<void> {
    await this.#database.write(this.#ownDeed('completeOperations', { serialNumber }), (tx) => {
      const row = tx.get('operationsCertificate', { serialNumber });
      if (!row) throw new Error('a certificate of the operations CA that was never reserved');
      tx.update('operationsCertificate', { ...row, signature, fingerprint }, row);
    });
  }

  client(fingerprint: string): Promise<KnownClient | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('client', { fingerprint });
      return row && known(reader, row);
    });
  }

  list(after: string | null, limit: number): Promise<readonly KnownClient[]> {
    return this.#database.read((reader) => {
      const rows = reader.scan('client', after === null ? { limit } : { after: [after], limit });
      return rows.map((row) => known(reader, row));
    });
  }

  add(command: Parameters<ClientStore['add']>[0]): Promise<void> {
    const { client, bindingEndsMs } = command;
    const subject = { fingerprint: client.fingerprint, roles: rolesOf(client), desks: client.desks };
    return this.#act(command, 'addClient', subject, (tx, nowMs) =>
      bindClient(tx, client, { nowMs, bindingEndsMs, unconfirmedSinceMs: null }),
    );
  }

  revoke(command: Parameters<ClientStore['revoke']>[0]): Promise<void> {
    const { fingerprint } = command;
    return this.#act(command, 'revokeClient', { fingerprint }, (tx, nowMs) => {
      const clientId = clientIdOf(clientOf(tx, fingerprint));
      const others = tx.find('clientTerm', { clientId });
      for (const each of new Set([fingerprint, ...others.map((row) => row.fingerprint)]))
        shutOut(tx, each, nowMs);
      return clientOf(tx, fingerprint);
    });
  }

  renew(command: Parameters<ClientStore['renew']>[0]): Promise<void> {
    const { fingerprint, successor, oldEndsMs, bindingEndsMs } = command;
    return this.#act(command, 'renewClient', { fingerprint, successor }, (tx, nowMs) => {
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
        ...newTerm(tx, successor, bindingEndsMs),
        clientId: old.clientId,
        renews: fingerprint,
        unconfirmedSinceMs: old.unconfirmedSinceMs,
      });
      writeTerm(tx, fingerprint, { ...old, endsMs: oldEndsMs, renewedBy: successor });
      return clientOf(tx, successor);
    });
  }

  rebind(command: Parameters<ClientStore['rebind']>[0]): Promise<void> {
    const { fingerprint, roles, desks, authorities, bindingEndsMs } = command;
    const bound = rolesOf({ fingerprint, name: '', roles, desks, authorities });
    return this.#act(command, 'rebindClient', { fingerprint, roles: bound, desks }, (tx) => {
      const row = tx.get('client', { fingerprint });
      if (!row) throw new PkiError('not-found', 'no such client');
      tx.update('client', { ...row, roles: bound, desks: JSON.stringify(desks) }, row);
      const { term } = clientOf(tx, fingerprint);
      writeTerm(tx, fingerprint, {
        ...(term ?? newTerm(tx, fingerprint, bindingEndsMs)),
        bindingEndsMs,
      });
      return clientOf(tx, fingerprint);
    });
  }

  confirm(command: Parameters<ClientStore['confirm']>[0]): Promise<void> {
    const { fingerprint, scope } = command;
    return this.#act(command, 'confirmClient', { fingerprint }, (tx) => {
      const { term } = clientOf(tx, fingerprint);
      if (term?.unconfirmedSinceMs == null)
        throw new PkiError('illegal-transition', 'the client does not wait to be confirmed');
      const { clientId } = term;
      if (scope.client === clientId)
        throw new PkiError('forbidden', 'an administrator is confirmed by another');
      for (const row of tx.find('clientTerm', { clientId }))
        tx.update('clientTerm', { ...row, unconfirmedSinceMs: null }, row);
      return clientOf(tx, fingerprint);
    });
  }

  async noteUses(uses: ReadonlyMap<string, number>): Promise<void> {
    if (uses.size === 0) return;
    await this.#database.write(this.#ownDeed('noteUses', {}), (tx) => {
      for (const [fingerprint, lastUsedMs] of uses) {
        const row = tx.get('clientTerm', { fingerprint });
        if (row) tx.update('clientTerm', { ...row, lastUsedMs }, row);
      }
    });
  }

  #ownDeed(action: string, subject: Deed['subject']): Deed {
    return {
      actor: { client: `node:${this.#database.writer}`, role: 'node', requestId: '' },
      action,
      subject,
    };
  }

  #act(
    { scope, actor, reply }: OperatorCommand<KnownClient>,
    action: string,
    subject: Deed['subject'],
    act: (tx: Transaction, nowMs: number) => KnownClient,
  ): Promise<void> {
    const nowMs = this.#clock.wallMs();
    return writeOnce(this.#database, { scope, deed: { actor, action, subject }, nowMs }, (tx) =>
      reply(act(tx, nowMs)),
    );
  }
}

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

function known(reader: RecordReader, row: Row<'client'>): KnownClient {
  const found = reader.get('clientTerm', { fingerprint: row.fingerprint });
  if (!found) return { ...clientView(row), term: null };
  const { fingerprint: _, ...term } = found;
  return { ...clientView(row), term };
}

/** A certificate without a recorded end was issued by an earlier version, and lasts as long as those did. */
const lifeOfEarlier = 90 * 86_400_000;

/**
 * Binds an administrator at the console, where no administrator can act any more; the client waits to be confirmed by another.
 * `in-use` while one can.
 */
export async function breakGlass(
  database: RecordDatabase,
  client: NewClient,
  at: { readonly nowMs: number; readonly bindingMs: number },
): Promise<void> {
  const { nowMs, bindingMs } = at;
  const actor = { client: `node:${database.writer}`, role: 'console', requestId: '' };
  const subject = { fingerprint: client.fingerprint, roles: rolesOf(client) };
  await database.write({ actor, action: 'breakGlass', subject }, (tx) => {
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
    bindClient(tx, client, {
      nowMs,
      bindingEndsMs: nowMs + bindingMs,
      unconfirmedSinceMs: nowMs,
    });
  });
}

/** Administrators that were bound at the console and are not confirmed. */
export function unconfirmed(database: RecordDatabase): Promise<readonly string[]> {
  return database.read((reader) => {
    const rows = reader.find('clientTerm', {});
    return rows.filter((row) => row.unconfirmedSinceMs !== null).map(({ fingerprint }) => fingerprint);
  });
}

/** Binds the very first client, before there is one that could ask for it. */
export async function recordFirstClient(
  database: RecordDatabase,
  actor: Actor,
  client: Pick<NewClient, 'fingerprint' | 'name' | 'roles'>,
  at: { readonly nowMs: number; readonly bindingMs: number },
): Promise<void> {
  const { fingerprint, roles } = client;
  const { nowMs, bindingMs } = at;
  const binding = { nowMs, bindingEndsMs: nowMs + bindingMs, unconfirmedSinceMs: null };
  await database.write({ actor, action: 'addClient', subject: { fingerprint, roles } }, (tx) => {
    bindClient(tx, { ...client, desks: ['*'], authorities: [] }, binding);
  });
}
