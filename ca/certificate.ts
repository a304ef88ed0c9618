import { type Suite, subjectPublicKeyBits } from '../core/algorithms.ts';
import type { Bytes } from '../core/bytes.ts';
import {
  booleanTrue,
  explicit,
  integer,
  namedBits,
  nullValue,
  objectIdentifier,
  sequence,
  tag,
  time,
  tlv,
  unsignedInteger,
} from '../core/der-writer.ts';
import { invariant } from '../core/errors.ts';
import { authorityKeyIdentifier, extension, type IssuerReference, keyIdentifier } from '../core/extension.ts';
import { directoryName, uriName } from '../core/name.ts';
import { oid } from '../core/oids.ts';
import { type ExtensionName, type Profile, profiles } from './profiles.ts';

/** What is the same for all certificates of one kind from one authority. */
export interface IssuerContext {
  readonly suite: Suite;
  /** Name DER. */
  readonly issuer: Bytes;
  /** Absent in self-signed certificates. */
  readonly reference: IssuerReference | null;
  /** Japanese name, Name DER, of issuerAltName. */
  readonly issuerAltName: Bytes | null;
  readonly policy: { readonly oid: string; readonly cpsUri: string } | null;
  readonly ocspUri: string | null;
  readonly caIssuersUri: string | null;
}

/** What differs from certificate to certificate. */
export interface CertificateFields {
  /** Octets of the serial number, unsigned. */
  readonly serial: Bytes;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Name DER. */
  readonly subject: Bytes;
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Bytes;
  /** GeneralNames DER. */
  readonly subjectAltName: Bytes | null;
  /** DistributionPointName DER. */
  readonly distributionPointName: Bytes | null;
}

type Encoder = (profile: Profile, issuer: IssuerContext, fields: CertificateFields) => Bytes;

const required = <T>(value: T | null, what: string): T => {
  invariant(value !== null, `a profile with ${what} has one`);
  return value;
};

const encoders: Readonly<Record<ExtensionName, Encoder>> = {
  keyUsage: ({ keyUsage }) => extension(oid.keyUsage, namedBits(...keyUsage), 'critical'),

  extKeyUsage: ({ extKeyUsage }) =>
    extension(oid.extKeyUsage, sequence(objectIdentifier(required(extKeyUsage, 'extKeyUsage')))),

  subjectAltName: (_profile, _issuer, { subjectAltName }) =>
    extension(oid.subjectAltName, required(subjectAltName, 'subjectAltName')),

  // cA TRUE, no pathLenConstraint (RFC 5280 §4.2.1.9)
  basicConstraints: () => extension(oid.basicConstraints, sequence(booleanTrue), 'critical'),

  // PolicyInformation with one CPS qualifier (RFC 5280 §4.2.1.4)
  certificatePolicies: (_profile, issuer) => {
    const policy = required(issuer.policy, 'certificatePolicies');
    const cpsUri = tlv(tag.ia5String, Buffer.from(policy.cpsUri, 'latin1'));
    const qualifier = sequence(objectIdentifier(oid.cps), cpsUri);
    const information = sequence(objectIdentifier(policy.oid), sequence(qualifier));
    return extension(oid.certificatePolicies, sequence(information), 'critical');
  },

  issuerAltName: (_profile, { issuerAltName }) =>
    extension(oid.issuerAltName, sequence(directoryName(required(issuerAltName, 'issuerAltName')))),

  // DistributionPoint ::= SEQUENCE { distributionPoint [0] DistributionPointName OPTIONAL, … } (RFC 5280 §4.2.1.13)
  cRLDistributionPoints: (_profile, _issuer, { distributionPointName }) =>
    extension(
      oid.cRLDistributionPoints,
      sequence(sequence(required(distributionPointName, 'cRLDistributionPoints'))),
    ),

  // AccessDescription ::= SEQUENCE { accessMethod, accessLocation } (RFC 5280 §4.2.2.1)
  authorityInfoAccess: (_profile, { ocspUri, caIssuersUri }) => {
    const access = (method: string, uri: string) => sequence(objectIdentifier(method), uriName(uri));
    return extension(
      oid.authorityInfoAccess,
      sequence(
        access(oid.ocsp, required(ocspUri, 'an OCSP address')),
        access(oid.caIssuers, required(caIssuersUri, 'a CA certificate address')),
      ),
    );
  },

  authorityKeyIdentifier: (_profile, { reference }) =>
    authorityKeyIdentifier(required(reference, 'authorityKeyIdentifier')),

  subjectKeyIdentifier: (_profile, _issuer, { publicKey }) =>
    extension(oid.subjectKeyIdentifier, tlv(tag.octetString, keyIdentifier(subjectPublicKeyBits(publicKey)))),

  // id-pkix-ocsp-nocheck, value NULL (RFC 6960 §4.2.2.2.1)
  ocspNoCheck: () => extension(oid.ocspNoCheck, nullValue),
};

/**
 *     TBSCertificate ::= SEQUENCE { version [0] v3, serialNumber, signature, issuer, validity, subject,
 *                                   subjectPublicKeyInfo, extensions [3] }        (RFC 5280 §4.1)
 */
export function encodeTbsCertificate(
  kind: keyof typeof profiles,
  issuer: IssuerContext,
  fields: CertificateFields,
): Bytes {
  const profile = profiles[kind];
  return sequence(
    explicit(0, integer(2)),
    unsignedInteger(fields.serial),
    issuer.suite.algorithmIdentifier,
    issuer.issuer,
    sequence(time(fields.notBeforeMs), time(fields.notAfterMs)),
    fields.subject,
    fields.publicKey,
    explicit(3, sequence(...profile.extensions.map((name) => encoders[name](profile, issuer, fields)))),
  );
}
