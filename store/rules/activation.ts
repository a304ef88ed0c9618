import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { endPersonalisation } from './outbox.ts';
import { keyOf } from './views.ts';

// A new card or phone may take the place of another only once it has arrived. Until then its certificates are held, and
// those of its predecessor stay what they are; with the confirmation both change, in one transaction.

/** Rows of one look at what is due. */
const dueMax = 500;

/** Notes that an issuance waits for its confirmation, until then. */
export async function openActivation(
  tx: Transaction,
  issuance: { readonly issuanceId: string; readonly holderId: string; readonly mediumId: string },
  dueMs: number,
): Promise<void> {
  await tx.insert('activation', { ...issuance, state: 'awaited', dueMs });
}

/** Whether an issuance waits for its confirmation now. */
export async function isAwaited(reader: RecordReader, issuanceId: string): Promise<boolean> {
  return (await reader.get('activation', { issuanceId }))?.state === 'awaited';
}

/** Whether it does, or has. */
export async function wasAwaited(reader: RecordReader, issuanceId: string): Promise<boolean> {
  return (await reader.get('activation', { issuanceId })) !== undefined;
}

/** An issuance has arrived: those whose place it takes end at once, or when their overlap has passed. */
export async function confirmIssuance(
  tx: Transaction,
  issuanceId: string,
  replaced: readonly CertificateId[],
  nowMs: number,
): Promise<void> {
  await settle(tx, issuanceId, 'confirmed');
  const row = await tx.get('succession', { issuanceId });
  if (!row) return;
  const dueMs = row.overlapMs > 0 ? nowMs + row.overlapMs : null;
  await tx.update('succession', { ...row, dueMs, replaced: JSON.stringify(replaced.map(keyOf)) }, row);
}

/** An issuance never takes the place of anything: nothing waits for it, and nothing ends because of it any more. */
export async function endIssuance(tx: Transaction, issuanceId: string): Promise<void> {
  await settle(tx, issuanceId, 'ended');
  const row = await tx.get('succession', { issuanceId });
  if (row && row.dueMs !== null) await tx.update('succession', { ...row, dueMs: null }, row);
}

/** The last certificate of an issuance has ended: nothing of it arrives, and nothing ends because of it any more. */
export async function endIfLost(tx: Transaction, issuanceId: string): Promise<void> {
  const succession = await tx.get('succession', { issuanceId });
  if (succession?.dueMs == null && !(await isAwaited(tx, issuanceId))) return;
  const rows = await tx.find('certificate', { issuanceId });
  if (rows.every(({ state }) => state === 'revoked' || state === 'retired'))
    await endIssuance(tx, issuanceId);
}

async function settle(tx: Transaction, issuanceId: string, state: 'confirmed' | 'ended'): Promise<void> {
  const row = await tx.get('activation', { issuanceId });
  if (row?.state !== 'awaited') return;
  await tx.update('activation', { ...row, state, dueMs: null }, row);
  await endPersonalisation(tx, row);
}

/** Issuances that were not confirmed in time. */
export async function overdue(
  reader: RecordReader,
  nowMs: number,
): Promise<readonly { readonly issuanceId: string; readonly holderId: string }[]> {
  return reader.findDue('activation', nowMs, dueMax);
}
