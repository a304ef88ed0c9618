import { table } from './table.ts';

/** The register of verifiers, and by what each is known. */
export const verifierTables = {
  verifier: table({
    columns: {
      verifierId: 'text',
      name: 'text',
      type: 'text',
      /** JSON arrays. */
      kinds: 'text',
      purposes: 'text',
      /** The platform that asks for a service provider; null of all others. */
      platformId: 'text?',
      /** Where its notices go; null: it fetches them. */
      url: 'text?',
      /** `webhook` where there is such an address: those that messages are sent to are found by it. */
      delivery: 'text?',
      requestsPerSecond: 'integer?',
      questionsPerDay: 'integer?',
      watchesMax: 'integer?',
      fromMs: 'integer',
      toMs: 'integer?',
      suspendedMs: 'integer?',
      version: 'integer',
      changedMs: 'integer',
    },
    key: ['verifierId'],
    sparseIndexes: [{ columns: ['delivery', 'verifierId'], present: 'delivery' }],
  }),
  /** A token or certificate by its SHA-256, a port, or the folded name of a client of the API. */
  verifierCredential: table({
    columns: {
      credentialId: 'text',
      verifierId: 'text',
      type: 'text',
      value: 'text',
      fromMs: 'integer',
      toMs: 'integer?',
      addedMs: 'integer',
    },
    key: ['credentialId'],
    indexes: [['verifierId'], ['type', 'value']],
  }),
} as const;
