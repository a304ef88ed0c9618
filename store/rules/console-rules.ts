import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, NewClient } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Rule } from '../engine/rule.ts';
import { bindClient, bindLoads, clientLocks } from './client-rules.ts';
import { revokeClientCertificate } from './clients.ts';
import { type At, founderRole, known, type Operators, operatorLoads, operatorsIn } from './operators.ts';

import { rolesOf } from './views.ts';

// The rules of clients that are bound without a request: by the ceremony, and at the console.

/** Founders and administrators that can act. */
export const operatorsOf = (database: RecordDatabase, at: At): Promise<Operators> =>
  database.read((reader) => operatorsIn(reader, at));

interface ConsoleBinding {
  readonly actor: Actor;
  readonly client: NewClient;
  readonly bindingMs: number;
}

const consoleClient: Rule<ConsoleBinding & { readonly personsWanted: number }, void> = {
  action: 'breakGlass',
  actor: ({ actor }) => actor,
  subject: ({ client }) => ({ fingerprint: client.fingerprint, roles: rolesOf(client) }),
  locks: clientLocks,
  loads: ({ client: { fingerprint, name } }) => [...operatorLoads, ...bindLoads(fingerprint, name)],
  decide: ({ client, bindingMs, personsWanted }, tx, { nowMs }) => {
    const { administrators } = operatorsIn(tx, { nowMs, bindingMs });
    const counted =
      personsWanted === 1 ? administrators : administrators.filter(({ kind }) => kind === 'person');
    if (counted.length >= personsWanted) {
      const names = counted.map(({ name, fingerprint }) => `${name} (${fingerprint.slice(0, 16)}…)`);
      throw new PkiError(
        'in-use',
        `administrators can act: ${names.join(', ')}; POST /v1/clients binds a client`,
      );
    }
    bindClient(tx, client, { nowMs, bindingEndsMs: nowMs + bindingMs, unconfirmedSinceMs: nowMs });
  },
};

/**
 * Binds an administrator at the console, where fewer can act than are wanted: one, or so many persons; the client waits to be confirmed
 * by another. `in-use` while they can.
 */
export function breakGlass(
  database: RecordDatabase,
  client: NewClient,
  { nowMs, bindingMs, personsWanted }: At & { readonly personsWanted: number },
): Promise<void> {
  const actor = { client: `node:${database.writer}`, role: 'console', requestId: '' };
  return database.run(consoleClient, { actor, client, bindingMs, personsWanted }, nowMs);
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
  loads: ({ client: { fingerprint, name } }) => bindLoads(fingerprint, name),
  decide: ({ client, bindingMs }, tx, { nowMs }) => {
    bindClient(tx, client, { nowMs, bindingEndsMs: nowMs + bindingMs, unconfirmedSinceMs: null });
  },
};

/** Binds the very first client, before there is one that could ask for it. */
export function recordFirstClient(
  database: RecordDatabase,
  actor: Actor,
  client: Omit<NewClient, 'desks' | 'authorities'>,
  { nowMs, bindingMs }: At,
): Promise<void> {
  const bound = { ...client, desks: ['*'], authorities: [] };
  return database.run(firstClient, { actor, client: bound, bindingMs }, nowMs);
}

interface FirstAdministrators {
  readonly actor: Actor;
  readonly founder: string;
  readonly administrators: readonly NewClient[];
  readonly bindingMs: number;
}

const firstAdministrators: Rule<FirstAdministrators, void> = {
  action: 'enrolAdministrators',
  actor: ({ actor }) => actor,
  subject: ({ founder, administrators }) => ({
    founder,
    administrators: administrators.map(({ fingerprint }) => fingerprint),
  }),
  locks: clientLocks,
  loads: ({ founder, administrators }) => [
    ...bindLoads(founder, ''),
    ...administrators.flatMap(({ fingerprint, name }) => bindLoads(fingerprint, name)),
  ],
  decide: ({ founder, administrators, bindingMs }, tx, { nowMs }) => {
    const row = tx.get('client', { fingerprint: founder });
    if (!row || row.revokedMs !== null || !known(tx, row).roles.includes(founderRole))
      throw new PkiError('forbidden', 'the first client has ended: its administrators are enrolled');
    for (const client of administrators)
      bindClient(tx, client, { nowMs, bindingEndsMs: nowMs + bindingMs, unconfirmedSinceMs: null });
    revokeClientCertificate(tx, founder, nowMs);
  },
};

/** Binds the first administrators of production, and ends the client that does, all of it or nothing. `forbidden` the second time. */
export function enrolAdministrators(
  database: RecordDatabase,
  command: FirstAdministrators,
  nowMs: number,
): Promise<void> {
  return database.run(firstAdministrators, command, nowMs);
}
