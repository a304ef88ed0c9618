import type { Medium } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { factsOf, noteReport, reclassify } from './device-classes.ts';
import { mediumView } from './views.ts';

// Cards and phones on record.

/** Writes what is known of a card or phone now; what a phone carries is of the class that follows from it. */
export function writeMedium(tx: Transaction, medium: Medium, nowMs: number): void {
  const { holderId, mediumId } = medium;
  const { isModelUnknown, ...columns } = columnsOf(medium);
  const before = tx.get('medium', { mediumId });
  if (before) tx.update('medium', { ...before, ...columns }, before);
  else tx.insert('medium', { ...columns, createdMs: nowMs });
  if (medium.type === 'phone') {
    noteModel(tx, mediumId, isModelUnknown);
    noteReport(tx, medium, nowMs);
  }
  // What is restricted is not enrolled.
  if (before?.holderId === holderId) reclassify(tx, medium, { nowMs, entered: null });
}

/** A card or phone on record, with all that is known of a phone. */
export function knownMedium(reader: RecordReader, row: Row<'medium'>): Medium {
  const medium = mediumView(row);
  return medium.type === 'phone' ? { ...medium, ...factsOf(reader, medium) } : medium;
}

/** What the row has, and whether its model is unknown. */
function columnsOf(medium: Medium) {
  if (medium.type === 'card') return { ...medium, isModelUnknown: false };
  const { appletVersion: _, appVersion: __, isModelUnknown = false, ...columns } = medium;
  return { ...columns, isModelUnknown };
}

function noteModel(tx: Transaction, mediumId: string, isUnknown: boolean): void {
  const was = tx.get('unknownModel', { mediumId });
  if (isUnknown && !was) tx.insert('unknownModel', { mediumId });
  if (!isUnknown && was) tx.remove('unknownModel', { mediumId });
}
