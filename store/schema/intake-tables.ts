import { certificateKey, table } from './table.ts';

/** Intakes: customers whom a verifier has had before it could have them sign receipts. */
export const intakeTables = {
  intake: table({
    columns: {
      intakeId: 'text',
      verifierId: 'text',
      /** What all of these customers have signed contains. */
      statement: 'text',
      state: 'text',
      entries: 'integer',
      sampled: 'integer',
      shown: 'integer',
      /** Of an accepted one: certificates that are watched by now, and those that cannot be. */
      watched: 'integer',
      leftOut: 'integer',
      begunMs: 'integer',
      changedMs: 'integer',
      /** `take` or `remove` while entries are left of one that was accepted or ended. */
      work: 'text?',
    },
    key: ['intakeId'],
    indexes: [['verifierId']],
    sparseIndexes: [{ columns: ['work', 'intakeId'], present: 'work' }],
  }),
  intakeEntry: table({
    columns: {
      intakeId: 'text',
      ...certificateKey,
      /** In the order in which they came: what the sample is drawn by. */
      number: 'integer',
      reference: 'text?',
      /** 1: drawn, its signature is to be shown; 2: shown. */
      sample: 'integer?',
    },
    key: ['intakeId', 'authority', 'epoch', 'position'],
    indexes: [['intakeId', 'number']],
    sparseIndexes: [{ columns: ['intakeId', 'sample'], present: 'sample' }],
  }),
} as const;
