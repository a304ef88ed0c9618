import type { RecordReader } from '../engine/record.ts';
import { byIndex, byKey, type Load } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Holders have no row of their own where something is issued to them: that is on record under their id. Each index by holder costs
// an issuance a page at a random place.

/** What `isKnownHolder` reads. */
export const knownHolderLoads = (holderId: string): readonly Load[] => [
  byIndex('certificate', { holderId }),
  byKey('holder', { holderId }),
];

/** Whether anything was issued to a holder, or reported of one to whom nothing was. */
export const isKnownHolder = (reader: RecordReader, holderId: string): boolean =>
  reader.find('certificate', { holderId }).length > 0 || reader.get('holder', { holderId }) !== undefined;

/** The cards and phones that carry certificates, each once. */
export const mediumIdsOf = (
  certificates: readonly Pick<Row<'certificate'>, 'mediumId'>[],
): readonly string[] => [
  ...new Set(certificates.flatMap(({ mediumId }) => (mediumId === null ? [] : [mediumId]))),
];

/** A holder's cards and phones, in order of their ids: those that carry certificates of the holder, and are no one else's now. */
export function mediaOf(reader: RecordReader, holderId: string): Row<'medium'>[] {
  const ids = mediumIdsOf(reader.find('certificate', { holderId }));
  return ids.toSorted().flatMap((mediumId) => {
    const row = reader.get('medium', { mediumId });
    return row?.holderId === holderId ? [row] : [];
  });
}
