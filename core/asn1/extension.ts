import { type Bytes, digest } from '../runtime/bytes.ts';
import {
  booleanTrue,
  context,
  explicit,
  objectIdentifier,
  octetString,
  sequence,
  tlv,
} from './der-writer.ts';
import { directoryName } from './name.ts';
import { oid } from './oids.ts';

/** Extension ::= SEQUENCE { extnID, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING } (RFC 5280 §4.1). */
export function extension(
  id: string,
  value: Bytes,
  criticality: 'critical' | 'non-critical' = 'non-critical',
): Bytes {
  return sequence(
    objectIdentifier(id),
    ...(criticality === 'critical' ? [booleanTrue] : []),
    octetString(value),
  );
}

/** The certificate an authority's products point back to. */
export interface IssuerReference {
  /** Name DER. */
  readonly subject: Bytes;
  /** INTEGER DER. */
  readonly serialNumber: Bytes;
  readonly subjectKeyIdentifier: Bytes;
}

export function authorityKeyIdentifier(issuer: IssuerReference): Bytes {
  return extension(oid.authorityKeyIdentifier, authorityKey(issuer));
}

/** AuthorityKeyIdentifier: keyIdentifier [0], authorityCertIssuer [1], authorityCertSerialNumber [2] (RFC 5280 §4.2.1.1). */
export function authorityKey(issuer: IssuerReference): Bytes {
  const serialContent = issuer.serialNumber.subarray(2);
  return sequence(
    tlv(context(0, 'primitive'), issuer.subjectKeyIdentifier),
    tlv(context(1), directoryName(issuer.subject)),
    tlv(context(2, 'primitive'), serialContent),
  );
}

/** SHA-1 of the subjectPublicKey bits, 20 octets (RFC 5280 §4.2.1.2, method 1). */
export function keyIdentifier(subjectPublicKey: Bytes): Bytes {
  return digest('sha1', subjectPublicKey);
}

/**
 * DistributionPointName.fullName [0] of GeneralNames, as certificates (cRLDistributionPoints) and CRLs
 * (issuingDistributionPoint) both carry it: one function, because RFC 5280 §6.3.3 matches them name for name.
 */
export function distributionPointName(...generalNames: readonly Bytes[]): Bytes {
  return explicit(0, tlv(context(0), ...generalNames));
}
