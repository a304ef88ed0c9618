import type { CertificateId } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AdoptedBinding, AdoptedView } from '../api/holder-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { refuseClosed } from './standing.ts';
import { certificateView, keyOf } from './views.ts';

// Certificates that a restored record knows from its followers' journals: their status, and where it was replicated their holder,
// but not their octets.

export async function adoptedAfter(
  reader: RecordReader,
  after: CertificateId | null,
  limit: number,
): Promise<AdoptedView[]> {
  const order = ['authority', 'epoch', 'position'] as const;
  const from = after && [after.authority, after.epoch, after.position];
  const rows = await reader.scan('adopted', from ? { order, limit, after: from } : { order, limit });
  return Promise.all(
    rows.map(async ({ adoptedMs, ...key }) => {
      const row = await reader.get('certificate', key);
      if (!row) throw new PkiError('record-unavailable', 'an adopted certificate is not on record');
      return { certificate: certificateView(row), adoptedMs };
    }),
  );
}

/** See `HolderStore.bindAdopted`. */
export async function bindAdopted(
  tx: Transaction,
  binding: AdoptedBinding,
  nowMs: number,
): Promise<Row<'certificate'>> {
  const { key, holderId, mediumId, notBeforeMs, restsOn } = binding;
  const row = await tx.get('certificate', keyOf(key));
  if (!row || !(await tx.get('adopted', keyOf(key))))
    throw new PkiError('not-found', 'no certificate that was adopted and is not bound yet');
  if (row.holderId !== null && (row.holderId !== holderId || row.mediumId !== mediumId))
    throw new PkiError('illegal-transition', 'the record knows it to be of another holder, card or phone');
  // What reaches a holder's certificates must reach this one: where it would have, it is to be revoked first.
  if (row.state !== 'revoked') await refuseClosed(tx, holderId, []);
  await tx.insertNew('holder', { holderId, createdMs: nowMs });
  await openMedium(tx, binding, row, nowMs);
  await putOnRecord(tx, binding, row, nowMs);
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
  await tx.update('certificate', after, row);
  await tx.remove('adopted', keyOf(key));
  return after;
}

async function openMedium(
  tx: Transaction,
  { holderId, mediumId, notAfterMs, restsOn }: AdoptedBinding,
  { kind }: Row<'certificate'>,
  nowMs: number,
): Promise<void> {
  const known = await tx.get('medium', { mediumId });
  if (known && known.holderId !== holderId)
    throw new PkiError('medium-belongs-to-another-holder', 'that card or phone is another holder’s');
  if (known) return;
  const base = restsOn && (await tx.get('certificate', keyOf(restsOn)));
  await tx.insert('medium', {
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

async function putOnRecord(
  tx: Transaction,
  binding: AdoptedBinding,
  { state }: Row<'certificate'>,
  nowMs: number,
): Promise<void> {
  const { key, keyHash, toBeSigned, signature } = binding;
  const columns = { keyHash, certifiedMs: nowMs, blockedMs: null, ...keyOf(key) };
  if (!(await tx.insertNew('publicKey', columns))) {
    const known = await tx.get('publicKey', { keyHash });
    const isOther =
      known?.authority != null &&
      (known.authority !== key.authority || known.epoch !== key.epoch || known.position !== key.position);
    if (known?.blockedMs != null && state !== 'revoked')
      throw new PkiError('invalid-key', 'its public key is blocked: revoke the certificate first');
    if (!known || isOther) throw new PkiError('already-certified', 'another certificate has that public key');
    await tx.update('publicKey', { ...known, ...keyOf(key), certifiedMs: known.certifiedMs ?? nowMs }, known);
  }
  await tx.insertNew('encoding', { ...keyOf(key), dataKey: toBeSigned.key, octets: toBeSigned.octets });
  await tx.insertNew('signature', { ...keyOf(key), octets: signature });
}
