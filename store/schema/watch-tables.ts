import { certificateKey, table } from './table.ts';

/** What verifiers watch, and how often they report uses. */
export const watchTables = {
  /** What a verifier says of a certificate that it watches. `watch` has who is notified of a certificate; this, what a verifier watches. */
  watchDetail: table({
    columns: {
      verifier: 'text',
      ...certificateKey,
      /** The verifier's own name for it, such as a private id (民間ID). */
      reference: 'text?',
      createdMs: 'integer',
      /** When the certificate ends, until its verifier is notified of that. */
      endsMs: 'integer?',
    },
    key: ['verifier', 'authority', 'epoch', 'position'],
    sparseIndexes: [{ columns: ['endsMs'], present: 'endsMs' }],
  }),
  /** Uses that a verifier has reported of one holder's certificates on a day in Japan, YYYYMMDD. */
  useCount: table({
    columns: { day: 'integer', verifier: 'text', holderId: 'text', uses: 'integer' },
    key: ['day', 'verifier', 'holderId'],
  }),
} as const;
