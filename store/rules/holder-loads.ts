import { keyOf } from '../../core/model/certificate-id.ts';
import type { Target } from '../../core/model/plan.ts';
import type { SwitchName } from '../api/switch-names.ts';
import type { RecordReader } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { restrictionsLock, statusLoads } from './device-classes.ts';
import { knownHolderLoads, mediumIdsOf } from './holders.ts';
import { countName } from './switches.ts';

// What rules about a holder read: nearly all that is on record of the holder, which is little.

/** All that plans depend on, and all that an act may change. */
export const holderLoads = (holderId: string): readonly Load[] => [
  byKey('holder', { holderId }),
  byKey('standing', { holderId }),
  byKey('holderTown', { holderId }),
  byKey('wish', { holderId }),
  byKey('withholding', { holderId }),
  byIndex(
    'certificate',
    { holderId },
    {
      each: (row) => [
        ...(row.mediumId === null ? [] : mediumLoads(row.mediumId, holderId)),
        ...issuanceLoads(row.issuanceId),
        ...statusLoads(row),
        byIndex('watch', keyOf(row)),
        byKey('authority', { authority: row.authority }),
      ],
    },
  ),
  byIndex('succession', { holderId }, { each: ({ issuanceId }) => issuanceLoads(issuanceId) }),
  byIndex('activation', { holderId }),
  byIndex('enrolment', { holderId }),
  byIndex('lifeEvent', { holderId }),
  byIndex('movedDay', { holderId }),
];

/** What is on record of a card or phone. */
const mediumLoads = (mediumId: string, holderId: string): readonly Load[] => [
  byKey('medium', { mediumId }),
  byIndex('movedDay', { mediumId }),
  // A former holder's messages say nothing of this one's certificates.
  byIndex(
    'message',
    { mediumId },
    { each: (row) => (row.holderId === holderId ? [byKey('certificate', keyOf(row))] : []) },
  ),
  byKey('unknownModel', { mediumId }),
  byKey('phoneReport', { mediumId }),
];

/** What is on record of an issuance: its certificates, what it waits for, what it takes the place of, what was reported. */
export const issuanceLoads = (issuanceId: string): readonly Load[] => [
  byIndex('certificate', { issuanceId }, { each: statusLoads }),
  byKey('activation', { issuanceId }),
  byKey('succession', { issuanceId }),
  byKey('lifeEvent', { entryId: issuanceId }),
  byKey('lifeEvent', { entryId: `${issuanceId}/delivery` }),
];

/** What says whose a target is. */
export function targetLoads(target: Target): readonly Load[] {
  if (target.type === 'medium') return [byKey('medium', { mediumId: target.mediumId })];
  if (target.type === 'certificate') return [byKey('certificate', keyOf(target.key))];
  return knownHolderLoads(target.holderId);
}

/** The holder of a target, as far as the record says; null where it has none. */
export function holderOfTarget(target: Target, located: RecordReader): string | null {
  if (target.type === 'holder') return target.holderId;
  if (target.type === 'medium') return located.get('medium', { mediumId: target.mediumId })?.holderId ?? null;
  return located.get('certificate', keyOf(target.key))?.holderId ?? null;
}

/** What locates a holder's cards and phones, and what else was issued together with what they carry. */
export const holderLocation = (holderId: string): readonly Load[] => [
  byIndex(
    'certificate',
    { holderId },
    {
      each: ({ mediumId, issuanceId }) => [
        ...(mediumId === null ? [] : [byKey('medium', { mediumId })]),
        byIndex('certificate', { issuanceId }),
      ],
    },
  ),
];

/**
 * Locks on a holder with all cards and phones, as they were located, on what of the holder's issuances belongs to no holder yet (adopted
 * certificates that are not bound), and on restrictions.
 */
export function holderLocks(holderId: string | null, located: RecordReader): readonly Lock[] {
  if (holderId === null) return [];
  const certificates = located.find('certificate', { holderId });
  const siblings = certificates.flatMap(({ issuanceId }) => located.find('certificate', { issuanceId }));
  return [
    exclusive('holder', holderId),
    ...mediumIdsOf(certificates).map((mediumId) => exclusive('medium', mediumId)),
    ...ownCertificateLocks(siblings),
    restrictionsLock,
  ];
}

/** Locks on certificates that belong to no holder: of our own, and adopted ones that are not bound. */
export const ownCertificateLocks = (
  rows: readonly Pick<Row<'certificate'>, 'authority' | 'epoch' | 'position' | 'holderId'>[],
): readonly Lock[] =>
  rows
    .filter(({ holderId }) => holderId === null)
    .map(({ authority, epoch, position }) => exclusive('certificate', authority, epoch, position));

/** What says how a switch stands, before any lock is taken: only where it limits does anything have to be counted. */
export const switchLocation = (name: SwitchName): Load => byKey('switch', { name });

const isLimited = (name: SwitchName, located: RecordReader): boolean =>
  located.get('switch', { name })?.state === 'limited';

export const switchLoads = (name: SwitchName, located: RecordReader): readonly Load[] => [
  byKey('switch', { name }),
  ...(isLimited(name, located) ? [byKey('meta', { name: countName(name) })] : []),
];

export const switchLocks = (name: SwitchName, located: RecordReader): readonly Lock[] => [
  shared('switch', name),
  ...(isLimited(name, located) ? [exclusive('meta', countName(name))] : []),
];

export const keyLock = (keyHash: Uint8Array): Lock => exclusive('key', Buffer.from(keyHash).toString('hex'));

export const challengeLock = (challengeHash: Uint8Array): Lock =>
  exclusive('challenge', Buffer.from(challengeHash).toString('hex'));
