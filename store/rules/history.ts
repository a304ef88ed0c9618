import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { HistoryEntry } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';

/** What happened to one certificate, or to all of a holder's, in the order in which it was recorded. */
export function historyOf(
  reader: RecordReader,
  of: CertificateId | { readonly holderId: string },
): readonly HistoryEntry[] {
  const certificates = 'holderId' in of ? reader.find('certificate', of) : [of];
  const rows = certificates.map((row) => reader.find('history', keyOf(row)));
  // In the order in which they were written, where they are of one moment.
  return rows
    .flat()
    .sort((a, b) => a.atMs - b.atMs || a.eventPosition - b.eventPosition)
    .map(({ authority, epoch, position, atMs, change, reason, cause, actor }) => ({
      authority,
      epoch,
      position,
      atMs,
      change,
      reason,
      cause: JSON.parse(cause) as HistoryEntry['cause'],
      actor: JSON.parse(actor) as HistoryEntry['actor'],
    }));
}
