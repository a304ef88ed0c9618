import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AdoptedBinding, AdoptedView } from '../api/holder-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { refuseClosed } from './standing.ts';
import { certificateView } from './views.ts';

// Certificates that a restored record knows from its followers' journals: their status, and where it was replicated their holder,
// but not their octets.

export function adoptedAfter(
  reader: RecordReader,
  after: CertificateId | null,
  limit: number,
): AdoptedView[] {
  const order = ['authority', 'epoch', 'position'] as const;
  const from = after && [after.authority, after.epoch, after.position];
  const rows = reader.scan('adopted', from ? { order, limit, after: from } : { order, limit });
  return rows.map(({ adoptedMs, ...key }) => {
    const row = reader.get('certificate', key);
    if (!row) throw new PkiError('record-unavailable', 'an adopted certificate is not on record');
    return { certificate: certificateView(reader, row), adoptedMs };
  });
}

/** See `HolderStore.bindAdopted`. */
export function bindAdopted(tx: Transaction, binding: AdoptedBinding, nowMs: number): Row<'certificate'> {
  const { key, holderId, mediumId, notBeforeMs, restsOn } = binding;
  const row = tx.get('certificate', keyOf(key));
  if (!row || !tx.get('adopted', keyOf(key)))
    throw new PkiError('not-found', 'no certificate that was adopted and is not bound yet');
  if (row.holderId !== null && (row.holderId !== holderId || row.mediumId !== mediumId))
    throw new PkiError('illegal-transition', 'the record knows it to be of another holder, card or phone');
  // What reaches a holder's certificates must reach this one: where it would have, it is to be revoked first.
  if (row.state !== 'revoked') refuseClosed(tx, holderId, []);
  openMedium(tx, binding, row, nowMs);
  putOnRecord(tx, binding, row, nowMs);
  const rests = restsOn && {
    restsOnAuthority: restsOn.authority,
    restsOnEpoch: restsOn.epoch,
    restsOnPosition: restsOn.position,
  };
  const after = {
    ...row,
    holderId,
    mediumId,
    notBeforeMs,
    ...(row.restsOnAuthority === null ? rests : null),
  };
  tx.update('certificate', after, row);
  tx.remove('adopted', keyOf(key));
  return after;
}

function openMedium(
  tx: Transaction,
  { holderId, mediumId, notAfterMs, restsOn }: AdoptedBinding,
  { kind }: Row<'certificate'>,
  nowMs: number,
): void {
  const known = tx.get('medium', { mediumId });
  if (known && known.holderId !== holderId)
    throw new PkiError('medium-belongs-to-another-holder', 'that card or phone is another holder’s');
  if (known) return;
  const base = restsOn && tx.get('certificate', keyOf(restsOn));
  tx.insert('medium', {
    mediumId,
    holderId,
    type: kind.startsWith('phone-') ? 'phone' : 'card',
    expiresMs: notAfterMs,
    restsOn: base?.mediumId ?? null,
    platform: null,
    model: null,
    osVersion: null,
    secureElement: null,
    patchLevel: null,
    createdMs: nowMs,
  });
}

function putOnRecord(
  tx: Transaction,
  binding: AdoptedBinding,
  { state }: Row<'certificate'>,
  nowMs: number,
): void {
  const { key, keyHash, toBeSigned, signature } = binding;
  const columns = { keyHash, certifiedMs: nowMs, blockedMs: null, ...keyOf(key) };
  if (!tx.insertNew('publicKey', columns)) {
    const known = tx.get('publicKey', { keyHash });
    const isOther =
      known?.authority != null &&
      (known.authority !== key.authority || known.epoch !== key.epoch || known.position !== key.position);
    if (known?.blockedMs != null && state !== 'revoked')
      throw new PkiError('invalid-key', 'its public key is blocked: revoke the certificate first');
    if (!known || isOther) throw new PkiError('already-certified', 'another certificate has that public key');
    tx.update('publicKey', { ...known, ...keyOf(key), certifiedMs: known.certifiedMs ?? nowMs }, known);
  }
  tx.insertNew('encoding', { ...keyOf(key), dataKey: toBeSigned.key, octets: toBeSigned.octets });
  tx.insertNew('signature', { ...keyOf(key), octets: signature });
}
