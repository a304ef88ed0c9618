import type { RecordReader, Transaction } from '../engine/record.ts';
import { mediaOf } from './holders.ts';

// The last day of a foreign resident's card moves with the permission to stay, on the same card.

const dueMax = 500;

/** Moves the last day of a card, and of the phones that rest on it. */
export function moveLastDay(
  tx: Transaction,
  { mediumId, toMs }: { readonly mediumId: string; readonly toMs: number },
  nowMs: number,
): void {
  const card = tx.get('medium', { mediumId });
  if (!card || card.expiresMs === toMs) return;
  const { holderId } = card;
  // Only the last word on a card counts.
  for (const row of tx.find('movedDay', { mediumId }))
    if (row.dueMs !== null) tx.update('movedDay', { ...row, dueMs: null }, row);
  const before = tx.get('movedDay', { mediumId, changedMs: nowMs });
  if (before) tx.remove('movedDay', { mediumId, changedMs: nowMs });
  const fromMs = before?.fromMs ?? card.expiresMs;
  const moved = { mediumId, changedMs: nowMs, holderId, fromMs, toMs };
  tx.insert('movedDay', { ...moved, dueMs: toMs });
  tx.update('medium', { ...card, expiresMs: toMs }, card);
  for (const medium of mediaOf(tx, holderId))
    if (medium.restsOn === mediumId) tx.update('medium', { ...medium, expiresMs: toMs }, medium);
}

/** Cards whose last day was moved forward and has passed. */
export function shortenedCards(reader: RecordReader, nowMs: number): readonly string[] {
  return reader.findDue('movedDay', nowMs, dueMax).map(({ mediumId }) => mediumId);
}

/** Whether a card's last day has passed as it stands now; checked again in the transaction that acts on it. */
export function hasEnded(reader: RecordReader, mediumId: string, nowMs: number): boolean {
  const card = reader.get('medium', { mediumId });
  return card !== undefined && card.expiresMs < nowMs;
}

/** What outlived the card has ended, or does not outlive it any more. */
export function settleShortened(tx: Transaction, mediumId: string, nowMs: number): void {
  for (const row of tx.find('movedDay', { mediumId }))
    if (row.dueMs !== null && row.dueMs < nowMs) tx.update('movedDay', { ...row, dueMs: null }, row);
}
