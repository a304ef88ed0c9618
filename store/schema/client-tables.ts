import { table } from './table.ts';

/** What is on record of clients besides what they may do, and of what the operations CA signs. */
export const clientTables = {
  /** Certificates of the operations CA: written before they are signed, with the signature once there is one. */
  operationsCertificate: table({
    columns: {
      serialNumber: 'text',
      kind: 'text',
      commonName: 'text',
      keyHash: 'blob',
      notBeforeMs: 'integer',
      notAfterMs: 'integer',
      toBeSigned: 'blob',
      signature: 'blob?',
      /** SHA-256 of the certificate, hex; null while it is not signed. */
      fingerprint: 'text?',
      createdMs: 'integer',
    },
    key: ['serialNumber'],
    indexes: [['keyHash']],
    sparseIndexes: [{ columns: ['fingerprint'], present: 'fingerprint' }],
  }),
  /** Who a client is: a person or a system, under a name that no other has or had. Outlives its certificates. */
  clientIdentity: table({
    columns: {
      /** Fingerprint of the client's first certificate. */
      clientId: 'text',
      name: 'text',
      /** See `foldedName`. */
      foldedName: 'text',
      kind: 'text',
      addedMs: 'integer',
    },
    key: ['clientId'],
    indexes: [['foldedName']],
  }),
  /** How long a client may act, by the fingerprint of its certificate. */
  clientTerm: table({
    columns: {
      fingerprint: 'text',
      /** Fingerprint of the client's first certificate. */
      clientId: 'text',
      /** End of the certificate; null where it is not one of ours. */
      certificateEndsMs: 'integer?',
      /** End of the binding to roles, which only an administrator moves. */
      bindingEndsMs: 'integer',
      /** End of a certificate that was renewed, before its own. */
      endsMs: 'integer?',
      renews: 'text?',
      renewedBy: 'text?',
      lastUsedMs: 'integer?',
      /** Since when an administrator that was bound at the console waits to be confirmed by another. */
      unconfirmedSinceMs: 'integer?',
    },
    key: ['fingerprint'],
    indexes: [['clientId']],
  }),
} as const;
