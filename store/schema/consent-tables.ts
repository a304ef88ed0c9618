import { certificateKey, table } from './table.ts';

/** What holders have consented to, and what is withheld from everyone. */
export const consentTables = {
  /** A consent to the latest basic four. What was signed is kept as evidence, under its id. */
  consent: table({
    columns: {
      consentId: 'text',
      holderId: 'text',
      /** Who asks, and for whose service: verifiers of the register. */
      verifierId: 'text',
      serviceId: 'text',
      /** JSON array. */
      items: 'text',
      purpose: 'text',
      /** The certificate that signed it, and the hash of its key. */
      ...certificateKey,
      keyHash: 'blob',
      givenMs: 'integer',
      endsMs: 'integer',
      withdrawnMs: 'integer?',
      /** `holder`, or the desk. */
      withdrawnBy: 'text?',
    },
    key: ['consentId'],
    indexes: [['holderId']],
  }),
  /** Holders of whom a municipality has nothing given out. */
  withholding: table({
    columns: { holderId: 'text', sinceMs: 'integer?', desk: 'text', client: 'text', changedMs: 'integer' },
    key: ['holderId'],
  }),
} as const;
