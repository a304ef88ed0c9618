import { certificateKey, table } from './table.ts';

/** Usage restrictions of phones, and what phones are. */
export const restrictionTables = {
  /** Phones whose use is restricted; in force from the approval on. */
  restriction: table({
    columns: { restrictionId: 'text', match: 'text', note: 'text', state: 'text', createdMs: 'integer' },
    key: ['restrictionId'],
    indexes: [['state']],
  }),
  /** What is done to all phones of a restriction: proposed by one, approved by another, and in effect at once. */
  massAct: table({
    columns: {
      actId: 'text',
      restrictionId: 'text',
      action: 'text',
      reason: 'text?',
      /** `running` while phones are counted, and notices and orders are written. */
      state: 'text',
      proposedBy: 'text',
      proposedMs: 'integer',
      approvedBy: 'text?',
      approvedMs: 'integer?',
      /** Where that stands, JSON; null before it has begun. */
      cursor: 'text?',
      phones: 'integer',
      certificates: 'integer',
      finishedMs: 'integer?',
    },
    key: ['actId'],
    indexes: [['restrictionId'], ['state']],
  }),
  /** What a restriction does to the phones that it matches, as followers receive it: see `RestrictionFacts`. */
  restrictionEffect: table({
    columns: {
      restrictionId: 'text',
      /** `in-effect`, or `over` where no status follows from it any more. */
      state: 'text',
      version: 'integer',
      match: 'text',
      heldMs: 'integer',
      endedMs: 'integer?',
      revokedMs: 'integer?',
      reason: 'text?',
      lastCohort: 'integer?',
    },
    key: ['restrictionId'],
    indexes: [['state']],
  }),
  /** Phones that no match can tell apart, by `deviceClassName`: see `DeviceClass`. */
  deviceClass: table({ columns: { deviceClass: 'text', facts: 'text' }, key: ['deviceClass'] }),
  /** What a phone has reported of itself besides what its enrolment says. */
  phoneReport: table({
    columns: {
      mediumId: 'text',
      holderId: 'text',
      appletVersion: 'text?',
      appVersion: 'text?',
      reportedMs: 'integer',
      /** How many there were, since when: a day at most. */
      reports: 'integer',
      countedSinceMs: 'integer',
    },
    key: ['mediumId'],
  }),
  /** Of which class a certificate's phone was before, for its history. */
  formerClass: table({
    columns: {
      ...certificateKey,
      version: 'integer',
      deviceClass: 'text',
      sinceMs: 'integer',
      untilMs: 'integer',
    },
    key: ['authority', 'epoch', 'position', 'version'],
  }),
  /** Of which class the phone of a certificate is, by what is known last. */
  phoneCertificate: table({
    columns: {
      ...certificateKey,
      holderId: 'text',
      mediumId: 'text',
      deviceClass: 'text',
      /** The highest is the right one. */
      version: 'integer',
      /** Since when it is of that class. */
      sinceMs: 'integer',
    },
    key: ['authority', 'epoch', 'position'],
    indexes: [['deviceClass', 'mediumId', 'authority', 'epoch', 'position']],
  }),
} as const;
