import { clientTables } from './client-tables.ts';
import { consentTables } from './consent-tables.ts';
import { deskTables } from './desk-tables.ts';
import { holderTables } from './holder-tables.ts';
import { intakeTables } from './intake-tables.ts';
import { issuanceTables } from './issuance-tables.ts';
import { proposalTables } from './proposal-tables.ts';
import { restrictionTables } from './restriction-tables.ts';
import { certificateKey, type TableDescription, table } from './table.ts';
import { verifierTables } from './verifier-tables.ts';
import { watchTables } from './watch-tables.ts';

// The record as data. Every implementation builds its tables from this description: SQLite its DDL, the
// in-memory reference its maps. Names follow the RFCs; times are wall-clock milliseconds.

export const tables = {
  /** `incarnation` and `schema`: which record this is. */
  meta: table({ columns: { name: 'text', value: 'text' }, key: ['name'] }),

  /** One row for each key of a CA. */
  authority: table({
    columns: {
      authority: 'text',
      slot: 'text',
      generation: 'integer',
      suite: 'text',
      certificate: 'blob',
      createdMs: 'integer',
    },
    key: ['authority'],
  }),
  /** Certificates of authorities' keys by other generations of the same CA. */
  authorityLink: table({
    columns: { link: 'text', certificate: 'blob', createdMs: 'integer' },
    key: ['link'],
  }),
  /** AES keys of serial numbers, wrapped by the token. */
  epoch: table({
    columns: { authority: 'text', epoch: 'integer', wrappedKey: 'blob', openedMs: 'integer' },
    key: ['authority', 'epoch'],
  }),
  /** Blocks of positions handed to a writer. */
  lease: table({
    columns: {
      authority: 'text',
      epoch: 'integer',
      first: 'integer',
      end: 'integer',
      writer: 'text',
      leasedMs: 'integer',
    },
    key: ['authority', 'epoch', 'first'],
  }),
  /** Keys that seal personal data, one for each year of expiry, wrapped by the token. */
  dataKey: table({ columns: { name: 'text', wrappedKey: 'blob', createdMs: 'integer' }, key: ['name'] }),

  /** Holders of whom an event was reported before anything was issued to them: see `isKnownHolder`. */
  holder: table({ columns: { holderId: 'text', createdMs: 'integer' }, key: ['holderId'] }),
  medium: table({
    columns: {
      mediumId: 'text',
      holderId: 'text',
      type: 'text',
      expiresMs: 'integer',
      restsOn: 'text?',
      platform: 'text?',
      model: 'text?',
      osVersion: 'text?',
      secureElement: 'text?',
      patchLevel: 'text?',
      createdMs: 'integer',
    },
    key: ['mediumId'],
  }),
  certificate: table({
    columns: {
      ...certificateKey,
      kind: 'text',
      holderId: 'text?',
      mediumId: 'text?',
      issuanceId: 'text',
      state: 'text',
      reason: 'text?',
      revokedMs: 'integer?',
      invalidityMs: 'integer?',
      heldBy: 'text?',
      /** Who is notified of its changes, as bits; null if no one is. */
      notify: 'integer?',
      version: 'integer',
      notBeforeMs: 'integer',
      notAfterMs: 'integer',
      shard: 'text?',
      restsOnAuthority: 'text?',
      restsOnEpoch: 'integer?',
      restsOnPosition: 'integer?',
    },
    key: ['authority', 'epoch', 'position'],
    // By their ends: certificates of one day lie together, near those that were issued about the same time.
    indexes: [['holderId'], ['issuanceId'], ['notAfterMs', 'position', 'authority', 'epoch']],
  }),
  ...issuanceTables,
  shard: table({
    columns: {
      series: 'text',
      number: 'integer',
      shard: 'text',
      authority: 'text',
      distributionPointName: 'blob',
      path: 'text',
      issued: 'integer',
    },
    key: ['series', 'number'],
  }),

  ...holderTables,
  ...clientTables,
  ...deskTables,
  ...proposalTables,
  ...verifierTables,
  ...consentTables,
  ...watchTables,
  ...intakeTables,
  /** Decisions that the highest time on record is wrong. */
  timeCorrection: table({
    columns: {
      correctionId: 'text',
      note: 'text',
      state: 'text',
      fromMs: 'integer',
      toMs: 'integer?',
      proposedBy: 'text',
      proposedMs: 'integer',
      approvedBy: 'text?',
    },
    key: ['correctionId'],
  }),

  /** Issuances that are reserved and not yet complete; few rows at any time. */
  reservation: table({
    columns: {
      issuanceId: 'text',
      writer: 'text',
      leaseUntilMs: 'integer',
      client: 'text',
      route: 'text',
      idempotencyKey: 'text',
    },
    key: ['issuanceId'],
  }),
  /** What an issuance takes the place of, and which certificates those were; outlives the reservation. */
  succession: table({
    columns: {
      issuanceId: 'text',
      event: 'text',
      /** The card or phone that it befalls; null where it befalls the holder. */
      mediumId: 'text?',
      holderId: 'text',
      overlapMs: 'integer',
      /** When the predecessors end; null once they have, and while the issuance is not complete. */
      dueMs: 'integer?',
      /** Keys of the certificates whose place it takes, JSON: while it is due, those that will end. */
      replaced: 'text?',
    },
    key: ['issuanceId'],
    indexes: [['holderId']],
    sparseIndexes: [{ columns: ['dueMs'], present: 'dueMs' }],
  }),
  /** The signed message by which a phone inherits its card's assurance. */
  evidence: table({ columns: { issuanceId: 'text', dataKey: 'text', octets: 'blob' }, key: ['issuanceId'] }),
  /** Answers by idempotency key; `issuanceId` where the answer is made of the issuance. */
  request: table({
    columns: {
      client: 'text',
      route: 'text',
      idempotencyKey: 'text',
      bodyHash: 'blob',
      expiresMs: 'integer',
      state: 'text',
      issuanceId: 'text?',
      status: 'integer?',
      dataKey: 'text?',
      body: 'blob?',
    },
    key: ['client', 'route', 'idempotencyKey'],
    indexes: [['expiresMs']],
  }),
  challenge: table({
    columns: { challengeHash: 'blob', client: 'text', expiresMs: 'integer', usedBy: 'text?' },
    key: ['challengeHash'],
    indexes: [['expiresMs']],
  }),
  ...restrictionTables,
  /** Functions that an operator has limited or closed; what is not here is open. */
  switch: table({
    columns: {
      name: 'text',
      state: 'text',
      perMinute: 'integer?',
      note: 'text',
      changedMs: 'integer',
      changedBy: 'text',
    },
    key: ['name'],
  }),
  client: table({
    columns: {
      fingerprint: 'text',
      name: 'text',
      roles: 'text',
      desks: 'text',
      addedMs: 'integer',
      revokedMs: 'integer?',
    },
    key: ['fingerprint'],
  }),

  /** The status feed: gapless for each writer. A row has some events of one transaction, a JSON array. */
  event: table({
    columns: { writer: 'text', position: 'integer', body: 'text' },
    key: ['writer', 'position'],
  }),
  /** What happened to each certificate after it was issued, with its actor and cause. */
  history: table({
    columns: {
      ...certificateKey,
      writer: 'text',
      eventPosition: 'integer',
      atMs: 'integer',
      change: 'text',
      reason: 'text?',
      cause: 'text',
      actor: 'text',
    },
    key: ['authority', 'epoch', 'position', 'writer', 'eventPosition'],
  }),
  /** What others must learn: orders and notices, until they are delivered, and confirmed where they are orders. */
  message: table({
    columns: {
      messageId: 'text',
      type: 'text',
      destination: 'text',
      holderId: 'text?',
      mediumId: 'text?',
      ...certificateKey,
      kind: 'text',
      occasion: 'text',
      reason: 'text?',
      createdMs: 'integer',
      state: 'text',
      attempts: 'integer',
      dueMs: 'integer?',
      lastError: 'text?',
      deliveredMs: 'integer?',
      confirmedMs: 'integer?',
    },
    key: ['messageId'],
    indexes: [['state', 'messageId']],
    sparseIndexes: [
      { columns: ['destination', 'dueMs'], present: 'dueMs' },
      { columns: ['mediumId'], present: 'mediumId' },
    ],
  }),
  /** A holder's notice preferences; the address sealed. */
  wish: table({
    columns: {
      holderId: 'text',
      occasions: 'text',
      dataKey: 'text?',
      address: 'blob?',
      changedMs: 'integer',
    },
    key: ['holderId'],
  }),
  /** Verifiers that are notified of a certificate's changes. */
  watch: table({
    columns: { ...certificateKey, verifier: 'text', createdMs: 'integer' },
    key: ['authority', 'epoch', 'position', 'verifier'],
  }),
  /** The audit chain of each writer: see `audit-entry.ts`. */
  audit: table({
    columns: {
      writer: 'text',
      sequence: 'integer',
      atMs: 'integer',
      acts: 'text',
      rows: 'text',
      digests: 'blob',
      previousHash: 'blob',
      hash: 'blob',
      mac: 'blob',
    },
    key: ['writer', 'sequence'],
  }),
  /** Entries of before, which are read only: one for each transaction; `changes` are digests of the rows as it left them. */
  auditOfSchema3: table({
    columns: {
      writer: 'text',
      sequence: 'integer',
      atMs: 'integer',
      actor: 'text',
      action: 'text',
      subject: 'text',
      changes: 'text',
      previousHash: 'blob',
      hash: 'blob',
    },
    key: ['writer', 'sequence'],
  }),
} as const;

export type TableName = keyof typeof tables;

type Value<C> = C extends `${infer Required extends 'text' | 'integer' | 'blob'}?`
  ? Value<Required> | null
  : C extends 'text'
    ? string
    : C extends 'integer'
      ? number
      : C extends 'blob'
        ? Uint8Array
        : never;

export type Row<T extends TableName> = {
  -readonly [C in keyof (typeof tables)[T]['columns']]: Value<(typeof tables)[T]['columns'][C]>;
};

export type Key<T extends TableName> = Pick<Row<T>, Extract<(typeof tables)[T]['key'][number], keyof Row<T>>>;

/** A description without its literal types, for code that treats all tables alike. */
export const describe = (name: TableName): TableDescription => tables[name];

const columnNames = new Map(
  Object.entries(tables).map(([name, { columns }]) => [name, Object.keys(columns)] as const),
);

/** A table's columns, in order. */
export const columnsOf = (name: TableName): readonly string[] => columnNames.get(name) ?? [];
