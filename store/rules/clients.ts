import { PkiError } from '../../core/runtime/errors.ts';
import type { Client, NewClient } from '../api/certificate-store.ts';
import type { Transaction } from '../engine/record.ts';
import { clientView, rolesOf } from './views.ts';

/** Binds a client certificate. `bad-request` where it is bound already. */
export function insertClient(tx: Transaction, client: NewClient, nowMs: number): Client {
  const { fingerprint, name, desks } = client;
  if (tx.get('client', { fingerprint }))
    throw new PkiError('bad-request', 'fingerprint: that client certificate is registered already');
  const row = {
    fingerprint,
    name,
    roles: rolesOf(client),
    desks: JSON.stringify(desks),
    addedMs: nowMs,
    revokedMs: null,
  };
  tx.insert('client', row);
  return clientView(row);
}

/** Shuts a client out. `not-found` where there is none. */
export function revokeClientCertificate(tx: Transaction, fingerprint: string, nowMs: number): Client {
  const row = tx.get('client', { fingerprint });
  if (!row) throw new PkiError('not-found', 'no such client');
  const revoked = { ...row, revokedMs: row.revokedMs ?? nowMs };
  tx.update('client', revoked, row);
  return clientView(revoked);
}
