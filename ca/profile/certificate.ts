import { type Suite, subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import {
  booleanTrue,
  explicit,
  integer,
  namedBits,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  time,
  tlv,
  unsignedInteger,
} from '../../core/asn1/der-writer.ts';
import {
  authorityKeyIdentifier,
  extension,
  type IssuerReference,
  keyIdentifier,
} from '../../core/asn1/extension.ts';
import { directoryName, uriName } from '../../core/asn1/name.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';
import { type ExtensionName, type Profile, type ProfileKind, profiles } from './profiles.ts';

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

const required = <T>(value: T | null, what: string): T => {
  invariant(value !== null, `a profile with ${what} has one`);
  return value;
};

type VaryingName = Extract<
  ExtensionName,
  'subjectAltName' | 'cRLDistributionPoints' | 'subjectKeyIdentifier'
>;

/** Extensions that are the same in every certificate of a kind from one key. */
const fixed: Readonly<
  Record<Exclude<ExtensionName, VaryingName>, (profile: Profile, issuer: IssuerContext) => Bytes>
> = {
  keyUsage: ({ keyUsage }) => extension(oid.keyUsage, namedBits(...keyUsage), 'critical'),

  extKeyUsage: ({ extKeyUsage }) =>
    extension(oid.extKeyUsage, sequence(objectIdentifier(required(extKeyUsage, 'extKeyUsage')))),

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

  // id-pkix-ocsp-nocheck, value NULL (RFC 6960 §4.2.2.2.1)
  ocspNoCheck: () => extension(oid.ocspNoCheck, nullValue),
};

/** OIDs of the varying ones, encoded once. */
const ids = {
  subjectAltName: objectIdentifier(oid.subjectAltName),
  cRLDistributionPoints: objectIdentifier(oid.cRLDistributionPoints),
  subjectKeyIdentifier: objectIdentifier(oid.subjectKeyIdentifier),
} as const;

// DistributionPoint ::= SEQUENCE { distributionPoint [0] DistributionPointName OPTIONAL, … } (RFC 5280 §4.2.1.13)
const distributionPoints = (name: Bytes): Bytes =>
  sequence(ids.cRLDistributionPoints, octetString(sequence(sequence(name))));

const varying: Readonly<Record<VaryingName, (fields: CertificateFields) => Bytes>> = {
  subjectAltName: ({ subjectAltName }) =>
    sequence(ids.subjectAltName, octetString(required(subjectAltName, 'subjectAltName'))),

  cRLDistributionPoints: ({ distributionPointName }) =>
    distributionPoints(required(distributionPointName, 'cRLDistributionPoints')),

  subjectKeyIdentifier: ({ publicKey }) =>
    sequence(
      ids.subjectKeyIdentifier,
      octetString(octetString(keyIdentifier(subjectPublicKeyBits(publicKey)))),
    ),
};

const isVarying = (name: ExtensionName): name is VaryingName => name in varying;

const version = explicit(0, integer(2));
/** Distribution points of which a template keeps what their certificates have in common. */
const runsMax = 4096;

/**
 * What certificates of one kind from one key have in common, encoded once; the rest is spliced in for each.
 *
 *     TBSCertificate ::= SEQUENCE { version [0] v3, serialNumber, signature, issuer, validity, subject,
 *                                   subjectPublicKeyInfo, extensions [3] }        (RFC 5280 §4.1)
 */
export class CertificateTemplate {
  readonly kind: ProfileKind;
  readonly issuer: IssuerContext;
  /** signature and issuer. */
  readonly #middle: Bytes;
  readonly #extensions: readonly (Bytes | ((fields: CertificateFields) => Bytes))[];
  readonly #names: readonly ExtensionName[];
  /** See `commonRuns`. */
  readonly #runs = new Map<string, readonly Bytes[]>();
  #validity: { notBeforeMs: number; notAfterMs: number; encoded: Bytes } | undefined;

  constructor(kind: ProfileKind, issuer: IssuerContext) {
    this.kind = kind;
    this.issuer = issuer;
    this.#middle = Buffer.concat([issuer.suite.algorithmIdentifier, issuer.issuer]);
    const profile = profiles[kind];
    this.#names = profile.extensions;
    this.#extensions = profile.extensions.map((name) =>
      isVarying(name) ? varying[name] : fixed[name](profile, issuer),
    );
  }

  /** To-be-signed bytes. */
  encode(fields: CertificateFields): Bytes {
    const extensions = this.#extensions.map((part) => (typeof part === 'function' ? part(fields) : part));
    return sequence(
      version,
      unsignedInteger(fields.serial),
      this.#middle,
      this.#validityOf(fields),
      fields.subject,
      fields.publicKey,
      explicit(3, sequence(...extensions)),
    );
  }

  /**
   * Runs of octets that all certificates have in common that name one distribution point, in the order in which they stand. The same array
   * for the same name, as long as few others are asked for in between.
   */
  commonRuns(distributionPointName: Bytes): readonly Bytes[] {
    const name = view(distributionPointName).toString('latin1');
    const known = this.#runs.get(name);
    if (known) return known;
    const runs: Bytes[][] = [[this.#middle], []];
    for (const [i, part] of this.#extensions.entries()) {
      if (typeof part !== 'function') runs.at(-1)?.push(part);
      else if (this.#names[i] === 'cRLDistributionPoints')
        runs.at(-1)?.push(distributionPoints(distributionPointName));
      else runs.push([]);
    }
    const joined = runs.filter((run) => run.length > 0).map((run) => Buffer.concat(run));
    if (this.#runs.size >= runsMax) this.#runs.clear();
    this.#runs.set(name, joined);
    return joined;
  }

  /** Certificates of one second that end on one day follow each other. */
  #validityOf({ notBeforeMs, notAfterMs }: CertificateFields): Bytes {
    const last = this.#validity;
    if (last?.notBeforeMs === notBeforeMs && last.notAfterMs === notAfterMs) return last.encoded;
    const encoded = sequence(time(notBeforeMs), time(notAfterMs));
    this.#validity = { notBeforeMs, notAfterMs, encoded };
    return encoded;
  }
}
