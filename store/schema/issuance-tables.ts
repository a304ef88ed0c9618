import { certificateKey, table } from './table.ts';

/** What certificates are made of, and what an issuance came to. */
export const issuanceTables = {
  /** To-be-signed bytes, sealed. Apart from `certificate`, so that what status needs stays small; written once. */
  encoding: table({
    columns: { ...certificateKey, dataKey: 'text', octets: 'blob' },
    key: ['authority', 'epoch', 'position'],
  }),
  /** What many of them have in common, by its SHA-256: see `Encodings`. */
  encodingBase: table({ columns: { baseId: 'blob', octets: 'blob' }, key: ['baseId'] }),
  /**
   * What an issuance came to, written once when it is complete: see `issuances.ts`. Of this follow what makes certificates of the
   * to-be-signed bytes, and the first line of their history.
   */
  issuance: table({
    columns: {
      issuanceId: 'text',
      atMs: 'integer',
      writer: 'text',
      eventPosition: 'integer',
      actor: 'text',
      certificates: 'text',
      signatures: 'blob',
    },
    key: ['issuanceId'],
  }),
  /** Signatures of certificates that were adopted and bound, or issued before there were rows of `issuance`. */
  signature: table({
    columns: { ...certificateKey, octets: 'blob' },
    key: ['authority', 'epoch', 'position'],
  }),
  /** Every public key ever certified or blocked, and where it was certified. Outlives certificates and holders. */
  publicKey: table({
    columns: {
      keyHash: 'blob',
      certifiedMs: 'integer?',
      blockedMs: 'integer?',
      authority: 'text?',
      epoch: 'integer?',
      position: 'integer?',
    },
    key: ['keyHash'],
  }),
} as const;
