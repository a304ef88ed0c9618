import { type CertificateId, keyOf, sameKey } from '../../core/model/certificate-id.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Actor, CompleteCommand, HistoryEntry } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';

// What an issuance came to is one row, whatever number of certificates it has: their signatures, and that they were issued.

/**
 * A certificate in a row of `issuance`, in the order of their signatures, with what it was from then on: good, held until it arrives, or what
 * its history says.
 */
type Completed = readonly [
  authority: string,
  epoch: number,
  position: number,
  signatureOctets: number,
  issuedAs: IssuedAs | null,
];

/** The state with which a certificate begins. */
export type IssuedAs = 'good' | 'held';

/** Writes what an issuance came to, after the events of its certificates. */
export function insertIssuance(
  tx: Transaction,
  {
    issuanceId,
    actor,
    nowMs,
  }: { readonly issuanceId: string; readonly actor: Actor; readonly nowMs: number },
  completed: readonly (CompleteCommand['certificates'][number] & { readonly issuedAs: IssuedAs | null })[],
): void {
  const certificates = completed.map(
    ({ authority, epoch, position, signature, issuedAs }): Completed => [
      authority,
      epoch,
      position,
      signature.length,
      issuedAs,
    ],
  );
  tx.insert('issuance', {
    issuanceId,
    atMs: nowMs,
    writer: tx.writer,
    eventPosition: tx.heads.position,
    actor: JSON.stringify(actor),
    certificates: JSON.stringify(certificates),
    signatures: Buffer.concat(completed.map(({ signature }) => signature)),
  });
}

/** A certificate's place in the row of its issuance. */
interface Place {
  readonly row: Row<'issuance'>;
  /** Where its signature begins. */
  readonly from: number;
  readonly octets: number;
  readonly issuedAs: IssuedAs | null;
}

function placeOf(reader: RecordReader, key: CertificateId): Place | undefined {
  const certificate = reader.get('certificate', keyOf(key));
  const row = certificate && reader.get('issuance', { issuanceId: certificate.issuanceId });
  if (!row) return undefined;
  let from = 0;
  for (const [authority, epoch, position, octets, issuedAs] of JSON.parse(row.certificates) as Completed[]) {
    if (sameKey(key, { authority, epoch, position })) return { row, from, octets, issuedAs };
    from += octets;
  }
  return undefined;
}

/** A certificate's signature; undefined where it was not signed, or its octets are not on record. */
export function signatureOf(reader: RecordReader, key: CertificateId): Bytes | undefined {
  const place = placeOf(reader, key);
  if (!place) return reader.get('signature', keyOf(key))?.octets;
  return place.row.signatures.subarray(place.from, place.from + place.octets);
}

/** The first line of a certificate's history, and where it stands among the others; undefined where no row of `issuance` says it. */
export function issuedLine(
  reader: RecordReader,
  key: CertificateId,
): (HistoryEntry & Pick<Row<'history'>, 'eventPosition'>) | undefined {
  const place = placeOf(reader, key);
  if (!place?.issuedAs) return undefined;
  const reason = place.issuedAs === 'held' ? 'certificateHold' : null;
  const { atMs, eventPosition, actor } = place.row;
  const cause = { event: 'issued', cascadedFrom: null, partOf: null };
  const by = JSON.parse(actor) as Actor;
  return { ...keyOf(key), atMs, eventPosition, change: 'issued', reason, cause, actor: by };
}
