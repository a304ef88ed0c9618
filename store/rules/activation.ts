import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { endPersonalisation } from './outbox.ts';
import { replacedIn, textOfReplaced } from './replaced.ts';
import { statusOf } from './views.ts';

// A new card or phone may take the place of another only once it has arrived. Until then its certificates are held, and
// those of its predecessor stay what they are; with the confirmation both change, in one transaction.

/** Rows of one look at what is due. */
const dueMax = 500;

/** Notes that an issuance waits for its confirmation, until then. */
export function openActivation(
  tx: Transaction,
  issuance: { readonly issuanceId: string; readonly holderId: string; readonly mediumId: string },
  dueMs: number,
): void {
  tx.insert('activation', { ...issuance, state: 'awaited', dueMs });
}

/** Whether an issuance waits for its confirmation now. */
export function isAwaited(reader: RecordReader, issuanceId: string): boolean {
  return reader.get('activation', { issuanceId })?.state === 'awaited';
}

/** Whether it does, or has. */
export function wasAwaited(reader: RecordReader, issuanceId: string): boolean {
  return reader.get('activation', { issuanceId }) !== undefined;
}

/** An issuance has arrived: those whose place it takes end at once, or when their overlap has passed. */
export function confirmIssuance(
  tx: Transaction,
  issuanceId: string,
  replaced: readonly CertificateId[],
  nowMs: number,
): void {
  settle(tx, issuanceId, 'confirmed');
  const row = tx.get('succession', { issuanceId });
  if (!row) return;
  const dueMs = row.overlapMs > 0 ? nowMs + row.overlapMs : null;
  const { answered } = replacedIn(row.replaced);
  const ending = replaced.map(keyOf);
  tx.update('succession', { ...row, dueMs, replaced: textOfReplaced({ answered, ending }) }, row);
}

/** An issuance never takes the place of anything: nothing waits for it, and nothing ends because of it any more. */
export function endIssuance(tx: Transaction, issuanceId: string): void {
  settle(tx, issuanceId, 'ended');
  const row = tx.get('succession', { issuanceId });
  if (row && row.dueMs !== null) tx.update('succession', { ...row, dueMs: null }, row);
}

/** The last certificate of an issuance has ended: nothing of it arrives, and nothing ends because of it any more. */
export function endIfLost(tx: Transaction, issuanceId: string): void {
  const succession = tx.get('succession', { issuanceId });
  if (succession?.dueMs == null && !isAwaited(tx, issuanceId)) return;
  const rows = tx.find('certificate', { issuanceId });
  const isEnded = (row: Row<'certificate'>): boolean =>
    ['revoked', 'retired'].includes(statusOf(tx, row).state);
  if (rows.every(isEnded)) endIssuance(tx, issuanceId);
}

function settle(tx: Transaction, issuanceId: string, state: 'confirmed' | 'ended'): void {
  const row = tx.get('activation', { issuanceId });
  if (row?.state !== 'awaited') return;
  tx.update('activation', { ...row, state, dueMs: null }, row);
  endPersonalisation(tx, row);
}

/** Issuances that were not confirmed in time. */
export function overdue(
  reader: RecordReader,
  nowMs: number,
): readonly { readonly issuanceId: string; readonly holderId: string }[] {
  return reader.findDue('activation', nowMs, dueMax);
}
