import { type DeviceFacts, type DeviceMatch, matchesDevice } from '../../core/model/device.ts';
import type { RevocationReason } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView, Medium } from '../api/certificate-store.ts';
import type { BulkOperation, Restriction } from '../api/operations-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { factsOf } from './device-classes.ts';
import { certificateView, mediumView } from './views.ts';

export function actView({ cursor: _, ...row }: Row<'massAct'>): BulkOperation {
  return {
    ...row,
    action: row.action as BulkOperation['action'],
    state: row.state as BulkOperation['state'],
    reason: row.reason as RevocationReason | null,
  };
}

export function restrictionView(reader: RecordReader, row: Row<'restriction'>): Restriction {
  const acts = reader.find('massAct', { restrictionId: row.restrictionId });
  return {
    ...row,
    match: JSON.parse(row.match) as DeviceMatch,
    state: row.state as Restriction['state'],
    acts: acts.sort((a, b) => a.proposedMs - b.proposedMs).map(actView),
  };
}

/**
 * Refuses with `device-restricted` a phone that a restriction in force matches, by what it says of itself now, or by what it
 * said before, as long as it carries a certificate: what is held, or about to be, keeps the facts it is found by.
 */
export function refuseRestricted(reader: RecordReader, medium: Medium, nowMs: number): void {
  if (medium.type !== 'phone') return;
  const inForce = reader.find('restriction', { state: 'in-force' });
  if (inForce.length === 0) return;
  const found = reader.get('medium', { mediumId: medium.mediumId });
  // Of a phone that changes hands nothing is said that its former holder's record knows.
  const before = found?.holderId === medium.holderId ? found : undefined;
  const carries =
    before && certificatesOn(reader, before).some((row) => isOccupying(certificateView(reader, row), nowMs));
  const now = factsOf(reader, medium);
  const known: DeviceFacts[] = before && carries ? [now, phoneFacts(reader, before)] : [now];
  for (const { match, note } of inForce) {
    if (known.some((facts) => matchesDevice(JSON.parse(match) as DeviceMatch, facts)))
      throw new PkiError('device-restricted', `phones of this kind are restricted${note && `: ${note}`}`);
  }
}

/** What is known of a phone on record. */
function phoneFacts(reader: RecordReader, row: Row<'medium'>): DeviceFacts {
  const isModelUnknown = reader.get('unknownModel', { mediumId: row.mediumId }) !== undefined;
  return factsOf(reader, { ...mediumView(row), isModelUnknown } as Medium);
}

/** Whether a certificate is what a restriction is about: it is used, or may be again. */
export const isOccupying = (
  { state, notAfterMs }: Pick<CertificateView, 'state' | 'notAfterMs'>,
  nowMs: number,
): boolean => (state === 'reserved' || state === 'good' || state === 'held') && notAfterMs > nowMs;

/** The certificates on a phone. */
export function certificatesOn(
  reader: RecordReader,
  { mediumId, holderId }: Pick<Row<'medium'>, 'mediumId' | 'holderId'>,
): Row<'certificate'>[] {
  const rows = reader.find('certificate', { holderId });
  return rows.filter((row) => row.mediumId === mediumId);
}
