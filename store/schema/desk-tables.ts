import { table } from './table.ts';

/** Desks, and which municipality holders are of. */
export const deskTables = {
  desk: table({
    columns: {
      deskCode: 'text',
      kind: 'text',
      /** Whose it is, or who delegated to it; null of desks for the nation. */
      municipality: 'text?',
      /** JSON arrays; `*` is every municipality. */
      functions: 'text',
      municipalities: 'text',
      actsPerDay: 'integer?',
      validFromMs: 'integer',
      validToMs: 'integer?',
      suspendedMs: 'integer?',
      changedMs: 'integer',
    },
    key: ['deskCode'],
  }),
  /** A card that may take the place of a good one, as two persons have ordered it; gone as it is issued to. */
  cardOrder: table({
    columns: {
      mediumId: 'text',
      orderId: 'text',
      holderId: 'text',
      /** The card whose certificates end. */
      replaces: 'text',
      event: 'text',
      desk: 'text',
      client: 'text',
      expiresMs: 'integer',
    },
    key: ['mediumId', 'desk'],
  }),
  /** The municipality that a holder's card was issued by, or that the holder moved to since. */
  holderTown: table({
    columns: { holderId: 'text', municipality: 'text', changedMs: 'integer' },
    key: ['holderId'],
  }),
  /** Keyed hashes of the basic four that holders have or had; `year` in which the certificate with them ends. */
  identity: table({
    columns: { identityHash: 'blob', holderId: 'text', year: 'integer' },
    key: ['identityHash', 'holderId'],
    indexes: [['year']],
  }),
  /** The municipality that a message is for. */
  townMessage: table({ columns: { messageId: 'text', municipality: 'text' }, key: ['messageId'] }),
} as const;
