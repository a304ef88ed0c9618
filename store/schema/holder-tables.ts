import { certificateKey, table } from './table.ts';

/** What is on record of holders besides their media and certificates. */
export const holderTables = {
  /** Whether a holder may be issued to; only holders about whom an event was reported. */
  standing: table({
    columns: {
      holderId: 'text',
      closedBy: 'text?',
      reopens: 'text?',
      signingBarredBy: 'text?',
      closedMs: 'integer',
      signingMs: 'integer',
      changedMs: 'integer',
    },
    key: ['holderId'],
  }),
  /** What was reported of holders, with what the report was answered; of an issuance, under its id. */
  lifeEvent: table({
    columns: {
      entryId: 'text',
      holderId: 'text',
      mediumId: 'text?',
      event: 'text',
      client: 'text',
      eventId: 'text?',
      contentHash: 'blob',
      occurredMs: 'integer',
      /** 1 where the caller said when it occurred. */
      isStated: 'integer',
      recordedMs: 'integer',
      issuanceId: 'text?',
      route: 'text',
      idempotencyKey: 'text',
      status: 'integer?',
      dataKey: 'text?',
      body: 'blob?',
      actor: 'text',
    },
    key: ['entryId'],
    indexes: [['holderId']],
    sparseIndexes: [{ columns: ['client', 'eventId'], present: 'eventId' }],
  }),
  /** That a holder was closed in error: proposed by one client, approved by another. */
  correction: table({
    columns: {
      correctionId: 'text',
      holderId: 'text',
      note: 'text',
      /** What it undoes: the event that had closed the holder, and when that occurred. */
      closedBy: 'text',
      closedMs: 'integer',
      state: 'text',
      proposedBy: 'text',
      proposedMs: 'integer',
      approvedBy: 'text?',
      approvedMs: 'integer?',
    },
    key: ['correctionId'],
    indexes: [['holderId']],
  }),
  /** New cards and phones that take the place of others once their delivery or storage is confirmed. */
  activation: table({
    columns: {
      issuanceId: 'text',
      holderId: 'text',
      mediumId: 'text',
      state: 'text',
      /** When the wait ends; null once it has. */
      dueMs: 'integer?',
    },
    key: ['issuanceId'],
    indexes: [['holderId']],
    sparseIndexes: [{ columns: ['dueMs'], present: 'dueMs' }],
  }),
  /** Instances of the applet on phones, by the issuance that each holds the keys of, as the TSM says. */
  applet: table({
    columns: {
      issuanceId: 'text',
      mediumId: 'text',
      instanceId: 'text',
      version: 'text',
      recordedMs: 'integer',
    },
    key: ['issuanceId'],
    indexes: [['mediumId']],
  }),
  /** Certificates that a restored record knows from its followers alone: their octets are not on record. */
  adopted: table({
    columns: { ...certificateKey, adoptedMs: 'integer' },
    key: ['authority', 'epoch', 'position'],
  }),
  /** The language of holders who chose one. */
  wishLanguage: table({ columns: { holderId: 'text', language: 'text' }, key: ['holderId'] }),
  /** Mail addresses that are to be confirmed, sealed; how many codes were sent since a time, and how many wrong ones came. */
  addressToConfirm: table({
    columns: {
      holderId: 'text',
      messageId: 'text',
      dataKey: 'text',
      address: 'blob',
      expiresMs: 'integer',
      wrongCodes: 'integer',
      codes: 'integer',
      sinceMs: 'integer',
    },
    key: ['holderId'],
  }),
  /** What few messages have: the verifier of a notice of use, an address of its own, sealed. */
  messageDetail: table({
    columns: { messageId: 'text', verifier: 'text?', dataKey: 'text?', address: 'blob?' },
    key: ['messageId'],
  }),
  /** Phones without an attested model. */
  unknownModel: table({ columns: { mediumId: 'text' }, key: ['mediumId'] }),
  /** The card certificate whose key signed for a phone's certificates. */
  enrolment: table({
    columns: {
      issuanceId: 'text',
      holderId: 'text',
      signerAuthority: 'text',
      signerEpoch: 'integer',
      signerPosition: 'integer',
    },
    key: ['issuanceId'],
    indexes: [['holderId']],
  }),
  /** Last days of cards that were moved after issue; due while certificates outlive the card. */
  movedDay: table({
    columns: {
      mediumId: 'text',
      changedMs: 'integer',
      holderId: 'text',
      fromMs: 'integer',
      toMs: 'integer',
      dueMs: 'integer?',
    },
    key: ['mediumId', 'changedMs'],
    indexes: [['holderId']],
    sparseIndexes: [{ columns: ['dueMs'], present: 'dueMs' }],
  }),
  /** Codes by which a desk allows a phone to a holder whose card has no signing certificate. */
  enrolmentCode: table({
    columns: {
      codeHash: 'blob',
      holderId: 'text',
      mediumId: 'text',
      client: 'text',
      expiresMs: 'integer',
      usedBy: 'text?',
    },
    key: ['codeHash'],
    indexes: [['expiresMs']],
  }),
} as const;
