import { PkiError } from '../../core/runtime/errors.ts';
import type { Client, NewClient } from '../api/certificate-store.ts';
import type { Transaction } from '../engine/record.ts';
import { clientView, rolesOf } from './views.ts';

/** Binds a client certificate. `bad-request` where it is bound already. */
export async function insertClient(tx: Transaction, client: NewClient, nowMs: number): Promise<Client> {
  const { fingerprint, name, desks } = client;
  if (await tx.get('client', { fingerprint }))
    throw new PkiError('bad-request', 'fingerprint: that client certificate is registered already');
  const row = {
    fingerprint,
    name,
    roles: rolesOf(client),
    desks: JSON.stringify(desks),
    addedMs: nowMs,
    revokedMs: null,
  };
  await tx.insert('client', row);
  return clientView(row);
}

/** Shuts a client out. `not-found` where there is none. */
export async function shutOut(tx: Transaction, fingerprint: string, nowMs: number): Promise<Client> {
  const row = await tx.get('client', { fingerprint });
  if (!row) throw new PkiError('not-found', 'no such client');
  const revoked = { ...row, revokedMs: row.revokedMs ?? nowMs };
  await tx.update('client', revoked, row);
  return clientView(revoked);
}
