import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';

/** Blocks a key; gives the certificate that it is in, if any. */
export function block(tx: Transaction, keyHash: Uint8Array, nowMs: number): CertificateId | undefined {
  const nowhere = { authority: null, epoch: null, position: null };
  if (tx.insertNew('publicKey', { keyHash, certifiedMs: null, blockedMs: nowMs, ...nowhere }))
    return undefined;
  const row = tx.get('publicKey', { keyHash });
  if (!row) throw new Error('a key that is neither new nor known');
  tx.update('publicKey', { ...row, blockedMs: row.blockedMs ?? nowMs }, row);
  return certifiedAs(row);
}

/** The certificate that a public key is in, if any. */
export function certifiedAs({ authority, epoch, position }: Row<'publicKey'>): CertificateId | undefined {
  return authority === null || epoch === null || position === null
    ? undefined
    : { authority, epoch, position };
}
