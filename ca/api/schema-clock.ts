import { Type } from 'typebox';
import { closed, instant, nullable } from './schema-values.ts';

// The record's time.

export const TimeCorrectionNote = Type.Object(
  { note: Type.Optional(Type.String({ maxLength: 500, description: 'why the time on record is wrong' })) },
  closed,
);

export const TimeCorrectionView = Type.Object({
  correctionId: Type.String({ format: 'uuid' }),
  note: Type.String(),
  state: Type.Enum(['proposed', 'approved']),
  from: instant('the record’s time; of one approved, what was taken back'),
  to: nullable(instant('the machine’s time when it was approved')),
  proposedBy: Type.String({ description: 'fingerprint of the client' }),
  approvedBy: nullable(Type.String({ description: 'fingerprint of the client' })),
});

export const ClockState = Type.Object({
  recordTime: instant('by which is written and published: never behind what is on record'),
  machineTime: instant('of the machine’s own clock'),
  unreliable: nullable(Type.String({ description: 'why nothing is issued; null where it is' })),
  corrections: Type.Array(TimeCorrectionView),
});
