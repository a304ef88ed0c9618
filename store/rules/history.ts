import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { HistoryEntry } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { issuedLine } from './issuances.ts';
import { restrictedLines } from './restricted-history.ts';

/** What happened to one certificate, or to all of a holder's, in the order in which it was recorded. */
export function historyOf(
  reader: RecordReader,
  of: CertificateId | { readonly holderId: string },
): readonly HistoryEntry[] {
  const certificates = 'holderId' in of ? reader.find('certificate', of) : [of];
  const lines = certificates.flatMap((row) => [
    ...[issuedLine(reader, row)].filter((line) => line !== undefined),
    ...reader.find('history', keyOf(row)).map(lineOf),
    ...restrictedLines(reader, row),
  ]);
  // In the order in which they were written, where they are of one moment.
  return lines
    .sort((a, b) => a.atMs - b.atMs || a.eventPosition - b.eventPosition)
    .map(({ eventPosition: _, ...entry }) => entry);
}

function lineOf({ writer: _, cause, actor, ...row }: Row<'history'>) {
  return {
    ...row,
    cause: JSON.parse(cause) as HistoryEntry['cause'],
    actor: JSON.parse(actor) as HistoryEntry['actor'],
  };
}
