import type { Suite } from '../../core/asn1/algorithms.ts';
import {
  booleanTrue,
  context,
  enumerated,
  explicit,
  generalizedTime,
  headerLength,
  integer,
  sequence,
  tag,
  time,
  tlv,
  unsignedInteger,
  writeHeader,
} from '../../core/asn1/der-writer.ts';
import { authorityKeyIdentifier, extension, type IssuerReference } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type RevocationReason, reasonNumber } from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { serialAt } from './entries.ts';

export interface CrlEntry {
  readonly serial: Bytes;
  readonly revokedMs: number;
  readonly reason: RevocationReason | null;
  readonly invalidityMs: number | null;
}

/** removeFromCRL (RFC 5280 §5.3.1): on delta CRLs only, of certificates that are no longer listed. */
export const removeFromCrl = 8;

const reasonExtensions = new Map(
  [...Object.values(reasonNumber), removeFromCrl].map((number) => [
    number,
    extension(oid.cRLReasons, enumerated(number)),
  ]),
);
const reasonExtension = (number: number): Bytes => reasonExtensions.get(number) ?? new Uint8Array();

/**
 * One of revokedCertificates: SEQUENCE { userCertificate, revocationDate, crlEntryExtensions OPTIONAL }
 * (RFC 5280 §5.1.2.6). Reason unspecified is left out (§5.3.1).
 */
export function encodeCrlEntry({ serial, revokedMs, reason, invalidityMs }: CrlEntry): Bytes {
  const extensions: Bytes[] = [];
  if (reason !== null && reason !== 'unspecified') extensions.push(reasonExtension(reasonNumber[reason]));
  if (invalidityMs !== null) extensions.push(extension(oid.invalidityDate, generalizedTime(invalidityMs)));
  return sequence(
    unsignedInteger(serial),
    time(revokedMs),
    ...(extensions.length > 0 ? [sequence(...extensions)] : []),
  );
}

/** The entry by which a delta CRL takes back another: its certificate and date, with removeFromCRL. */
export function encodeRemoval(entry: Bytes): Bytes {
  const serial = serialAt(entry, 0);
  const dateStart = serial.byteOffset - entry.byteOffset + serial.length;
  const date = entry.subarray(dateStart, dateStart + 2 + (entry[dateStart + 1] ?? 0));
  return sequence(serial, date, sequence(reasonExtension(removeFromCrl)));
}

/** What a CRL says besides its entries. */
export interface CrlFields {
  readonly suite: Suite;
  /** Name DER. */
  readonly issuer: Bytes;
  readonly reference: IssuerReference;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly number: number;
  /** Of the complete CRL that a delta CRL goes on from; null for a complete one. */
  readonly baseNumber: number | null;
  /** DistributionPointName DER, as certificates carry it. */
  readonly distributionPointName: Bytes;
  /** Whether it lists CA certificates, or those of holders. */
  readonly scope: 'onlyContainsUserCerts' | 'onlyContainsCACerts';
  /** DistributionPointName DER of the delta CRLs to a complete one; null where there are none. */
  readonly freshest: Bytes | null;
}

/** A CRL but for its signature. */
export interface PreparedCrl {
  readonly toBeSigned: Bytes;
  /** CertificateList, DER, in the memory that it was prepared in. */
  seal(signature: Bytes): Bytes;
}

/**
 *     CertificateList ::= SEQUENCE { tbsCertList, signatureAlgorithm, signatureValue }
 *     TBSCertList ::= SEQUENCE { version v2, signature, issuer, thisUpdate, nextUpdate,
 *                                revokedCertificates SEQUENCE OF … OPTIONAL, crlExtensions [0] }
 *
 * RFC 5280 §5.1. `entries` are lists of encoded entries; they are copied once, into the place that they have in the end.
 */
export function prepareCrl(fields: CrlFields, entries: readonly Bytes[]): PreparedCrl {
  const { suite } = fields;
  const head = [
    integer(1),
    suite.algorithmIdentifier,
    fields.issuer,
    time(fields.thisUpdateMs),
    time(fields.nextUpdateMs),
  ];
  const tail = explicit(0, sequence(...crlExtensions(fields)));
  const listLength = lengthOf(entries);
  const list = listLength > 0 ? headerLength(listLength) + listLength : 0;
  const content = lengthOf(head) + list + tail.length;
  const tbsLength = headerLength(content) + content;
  const sealMax = suite.algorithmIdentifier.length + suite.pkcs11.signatureLengthMax + signatureRoom;
  // The header of the whole is known last, and stands first.
  const room = headerLength(tbsLength + sealMax);
  const out = new Uint8Array(room + tbsLength + sealMax);
  let at = writeHeader(out, room, tag.sequence, content);
  const put = (octets: Bytes): void => {
    out.set(octets, at);
    at += octets.length;
  };
  for (const part of head) put(part);
  if (listLength > 0) at = writeHeader(out, at, tag.sequence, listLength);
  for (const part of entries) put(part);
  put(tail);
  const toBeSigned = out.subarray(room, at);
  return {
    toBeSigned,
    seal: (signature) => {
      at = room + tbsLength;
      put(suite.algorithmIdentifier);
      at = writeHeader(out, at, tag.bitString, signature.length + 1);
      out[at++] = 0;
      put(signature);
      const start = room - headerLength(at - room);
      writeHeader(out, start, tag.sequence, at - room);
      return out.subarray(start, at);
    },
  };
}

/** Octets by which a signature in its BIT STRING is longer than what a token returns: headers, and signs of integers. */
const signatureRoom = 16;

const lengthOf = (parts: readonly Bytes[]): number => parts.reduce((sum, { length }) => sum + length, 0);

function crlExtensions(fields: CrlFields): Bytes[] {
  const { baseNumber, freshest } = fields;
  const extensions = [
    authorityKeyIdentifier(fields.reference),
    extension(oid.cRLNumber, integer(fields.number)),
  ];
  if (baseNumber !== null) {
    extensions.push(extension(oid.deltaCRLIndicator, integer(baseNumber), 'critical'));
  }
  extensions.push(extension(oid.issuingDistributionPoint, issuingDistributionPoint(fields), 'critical'));
  if (freshest) extensions.push(extension(oid.freshestCRL, sequence(sequence(freshest))));
  return extensions;
}

/** IssuingDistributionPoint (RFC 5280 §5.2.5). */
function issuingDistributionPoint({ distributionPointName, scope }: CrlFields): Bytes {
  const scopeTag = context(scope === 'onlyContainsUserCerts' ? 1 : 2, 'primitive');
  return sequence(distributionPointName, tlv(scopeTag, booleanTrue.subarray(2)));
}
