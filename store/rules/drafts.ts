import { keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateDraft, Medium } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { insertPhoneCertificate } from './device-classes.ts';

// Certificates before they are signed, and the keys that each is for.

/** Writes one certificate of an issuance as reserved: its key, its to-be-signed bytes. */
export function insertDraft(
  tx: Transaction,
  issuance: {
    readonly issuanceId: string;
    readonly medium: Medium | null;
    /** As in `certificate.notify`. */
    readonly notify: number | null;
  },
  draft: CertificateDraft,
  nowMs: number,
): void {
  const { keyHash, shard, restsOn } = draft;
  const key = { keyHash, certifiedMs: nowMs, blockedMs: null, ...keyOf(draft) };
  // A link certifies a key of ours once more.
  if (draft.kind !== 'authority-link' && !tx.insertNew('publicKey', key)) refuseKey(tx, draft);
  const row = {
    ...keyOf(draft),
    kind: draft.kind,
    holderId: issuance.medium?.holderId ?? null,
    mediumId: issuance.medium?.mediumId ?? null,
    issuanceId: issuance.issuanceId,
    state: 'reserved',
    reason: null,
    revokedMs: null,
    invalidityMs: null,
    heldBy: null,
    notify: issuance.notify,
    version: 0,
    notBeforeMs: draft.notBeforeMs,
    notAfterMs: draft.notAfterMs,
    shard: shard?.shard ?? null,
    restsOnAuthority: restsOn?.authority ?? null,
    restsOnEpoch: restsOn?.epoch ?? null,
    restsOnPosition: restsOn?.position ?? null,
  };
  tx.insert('certificate', row);
  if (issuance.medium?.type === 'phone') insertPhoneCertificate(tx, row, issuance.medium, nowMs);
  const { key: dataKey, octets } = draft.toBeSigned;
  tx.insert('encoding', { ...keyOf(draft), dataKey, octets });
}

/** A public key is certified once, ever; one that was blocked never. */
export function refuseKey(
  reader: RecordReader,
  { keyHash, kind }: Pick<CertificateDraft, 'keyHash' | 'kind'>,
): never {
  const known = reader.get('publicKey', { keyHash });
  if (known?.blockedMs) throw new PkiError('invalid-key', `the public key for ${kind} is blocked`);
  throw new PkiError('already-certified', `the public key for ${kind} has been certified before`);
}
