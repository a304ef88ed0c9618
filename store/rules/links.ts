import { keyOf } from '../../core/model/certificate-id.ts';
import { byIssue } from '../../core/model/issue-order.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { isWithheld } from './consents.ts';
import { wants, writeVerifierNotice } from './outbox.ts';
import { replacedIn } from './replaced.ts';
import { standingOf } from './standing.ts';
import { isGoodNow, statusOf } from './views.ts';

// Which certificate belongs to another: the other one of its pair, and the one that came after it.

type CertificateRow = Row<'certificate'>;

/**
 * The certificate of the same kind that came next: on a card, of any of the holder's cards; on a phone, on the same phone, or on the one that
 * took its place. undefined while there is none.
 */
export function successorOf(reader: RecordReader, row: CertificateRow): CertificateRow | undefined {
  const { holderId, kind, mediumId } = row;
  if (holderId === null) return undefined;
  const later = reader
    .find('certificate', { holderId })
    .filter((each) => each.kind === kind && each.state !== 'reserved' && byIssue(each, row) > 0)
    .sort(byIssue);
  if (!kind.startsWith('phone-')) return later[0];
  const onSame = later.find((each) => each.mediumId === mediumId);
  if (onSame) return onSame;
  const name = JSON.stringify(keyOf(row));
  const taken = reader
    .find('succession', { holderId })
    .filter(({ replaced }) =>
      replacedIn(replaced).answered.some((key) => JSON.stringify(keyOf(key)) === name),
    )
    .map(({ issuanceId }) => issuanceId);
  return later.find((each) => taken.includes(each.issuanceId));
}

/** The other certificate of the same card or phone that is good now. */
function pairOf(reader: RecordReader, row: CertificateRow, nowMs: number): CertificateRow | undefined {
  const { holderId, kind, mediumId } = row;
  const [medium = '', slot] = kind.split('-');
  const other = `${medium}-${slot === 'signing' ? 'authentication' : 'signing'}`;
  if (holderId === null || mediumId === null) return undefined;
  return reader
    .find('certificate', { holderId })
    .filter((each) => each.kind === other && each.mediumId === mediumId && isGoodNow(reader, each, nowMs))
    .sort((a, b) => byIssue(b, a))[0];
}

/** What a verifier may learn of a certificate that it has received: one that is good now, and of no holder of whom all is withheld. */
export function linkedTo(
  reader: RecordReader,
  row: CertificateRow | undefined,
  link: 'pair' | 'successor',
  nowMs: number,
): CertificateRow | undefined {
  if (!row?.holderId) return undefined;
  const [next, pair] = [successorOf(reader, row), pairOf(reader, row, nowMs)];
  const found = link === 'pair' ? pair : next;
  const isClosed = standingOf(reader, row.holderId)?.closedBy != null;
  const isHidden = isWithheld(reader, row.holderId) || isClosed || isKeyLeaked(reader, row);
  return found && !isHidden && isGoodNow(reader, found, nowMs) ? found : undefined;
}

/** Whether anyone may have the key of a certificate: a signature by it shows nothing. */
export function isKeyLeaked(reader: RecordReader, row: CertificateRow): boolean {
  const { state, reason } = statusOf(reader, row);
  return state === 'revoked' && reason === 'keyCompromise';
}

/** Notifies those that watch the certificate whose place a new one takes, now that it is good; not whose, nor which it is. */
export function notifySuccession(tx: Transaction, row: CertificateRow, nowMs: number): void {
  const { holderId, kind } = row;
  if (holderId === null) return;
  const watched = tx
    .find('certificate', { holderId })
    .filter(
      (each) => each.kind === kind && ((each.notify ?? 0) & wants.verifier) !== 0 && byIssue(row, each) > 0,
    );
  if (watched.length === 0 || isWithheld(tx, holderId)) return;
  for (const before of watched) {
    if (successorOf(tx, before)?.issuanceId !== row.issuanceId) continue;
    for (const { verifier } of tx.find('watch', keyOf(before)))
      writeVerifierNotice(tx, before, { verifier, occasion: 'succeeded', reason: null, nowMs });
  }
}
