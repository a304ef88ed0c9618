import { PkiError } from '../../core/runtime/errors.ts';
import type { ReserveCommand } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { certificatesOn } from './restrictions.ts';
import { certificateView } from './views.ts';

// A phone changes hands; a card never does. The next holder gets it when nothing of the one before is left on it: all
// certificates have ceased, and their keys are deleted, or so much time has passed that policy takes them for deleted.

/**
 * Refuses a card or phone that another holder has, in one form of words whatever the reason: it reveals nothing of others'
 * records.
 */
export function refuseOccupied(
  reader: RecordReader,
  known: Row<'medium'>,
  { limits }: Pick<ReserveCommand, 'limits'>,
  nowMs: number,
): void {
  if (known.type === 'phone' && isLeft(reader, known, limits.handOverAfterMs ?? null, nowMs)) return;
  throw new PkiError(
    'medium-belongs-to-another-holder',
    'that card or phone cannot be enrolled for this holder now',
  );
}

function isLeft(reader: RecordReader, phone: Row<'medium'>, afterMs: number | null, nowMs: number): boolean {
  const certificates = certificatesOn(reader, phone).map((row) => certificateView(reader, row));
  const inForce = certificates.some(({ state, notAfterMs }) => {
    const isLive = state === 'reserved' || state === 'good' || state === 'held';
    return isLive && notAfterMs > nowMs;
  });
  if (inForce) return false;
  const ceasedMs = Math.max(
    phone.createdMs,
    ...certificates.map(({ revokedMs, notAfterMs }) => Math.min(revokedMs ?? notAfterMs, notAfterMs)),
  );
  if (afterMs !== null && ceasedMs + afterMs <= nowMs) return true;
  const orders = reader.find('message', { mediumId: phone.mediumId });
  const isOpen = ({ type, state }: Row<'message'>): boolean =>
    type === 'remote-deletion' && state !== 'confirmed';
  // An order that is not there any more was confirmed long ago; what merely ended was never ordered to be deleted.
  return (
    !orders.some(isOpen) && certificates.length > 0 && certificates.every(({ state }) => state === 'revoked')
  );
}
