import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { OperationsDraft, ReservedOperations } from '../api/client-store.ts';
import { byIndex, byKey, exclusive, type Rule, shared } from '../engine/rule.ts';

// The rules of what the operations CA signs: on record before it is signed, and complete once it is.

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
