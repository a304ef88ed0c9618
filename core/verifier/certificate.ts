import { verify, type X509Certificate } from 'node:crypto';
import { type ParsedCertificate, parseCertificate } from '../asn1/certificate-reader.ts';
import { DerReader } from '../asn1/der-reader.ts';
import { context, tag } from '../asn1/der-writer.ts';
import { readX509 } from '../asn1/x509.ts';

// Certificates of a Warifu CA, as relying parties see them.

/** Content octets of OIDs, hex. */
const id = {
  keyUsage: '551d0f',
  extendedKeyUsage: '551d25',
  subjectKeyIdentifier: '551d0e',
  authorityKeyIdentifier: '551d23',
  distributionPoints: '551d1f',
  policies: '551d20',
  basicConstraints: '551d13',
  subjectAltName: '551d11',
  issuerAltName: '551d12',
} as const;
const clientAuth = '2b06010505070302';
const ocspSigning = '2b06010505070309';

/** Critical extensions that are looked at, or that the profile of this CA has. */
const understood: readonly string[] = Object.values(id);

/** Hash of a signature, by content octets of its algorithm's OID, hex. */
const hashOf: Readonly<Record<string, string>> = {
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
};

/** A CA, by its certificate. Several have one name: they are told apart by their keys. */
export interface Authority {
  readonly der: Uint8Array;
  readonly parsed: ParsedCertificate;
  readonly x509: X509Certificate;
  /** Subject key identifier, hex. */
  readonly keyId: string;
}

/** A certificate of one of the authorities, whose signature is verified. */
export interface IssuedCertificate {
  readonly der: Uint8Array;
  readonly parsed: ParsedCertificate;
  readonly x509: X509Certificate;
  readonly issuer: Authority;
  readonly isSigning: boolean;
  readonly isAuthentication: boolean;
}

/** Octets of a certificate in PEM or DER. */
export function octetsOf(certificate: string | Uint8Array): Buffer {
  if (typeof certificate !== 'string') return Buffer.from(certificate);
  return Buffer.from(certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64');
}

const extensionOf = ({ extensions }: ParsedCertificate, wanted: string): Uint8Array | undefined =>
  extensions.find((each) => each.id === wanted)?.value;

export function readAuthority(certificate: string | Uint8Array): Authority {
  const der = octetsOf(certificate);
  const parsed = parseCertificate(der);
  const keyId = extensionOf(parsed, id.subjectKeyIdentifier);
  if (!keyId) throw new TypeError('authorities: a certificate has no subjectKeyIdentifier');
  return {
    ...{ der, parsed, x509: readX509(der) },
    keyId: Buffer.from(new DerReader(keyId).content(tag.octetString)).toString('hex'),
  };
}

/** keyIdentifier of an AuthorityKeyIdentifier, hex. */
function issuerKeyId(parsed: ParsedCertificate): string | undefined {
  const value = extensionOf(parsed, id.authorityKeyIdentifier);
  const body = value && new DerReader(value).enter(tag.sequence);
  const keyId = context(0, 'primitive');
  return body?.peek() === keyId ? Buffer.from(body.content(keyId)).toString('hex') : undefined;
}

const sameOctets = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** A certificate with the authority that has issued it; words that say why it is none. */
export function readIssued(
  certificate: string | Uint8Array,
  authorities: readonly Authority[],
): IssuedCertificate | string {
  try {
    const der = octetsOf(certificate);
    const parsed = parseCertificate(der);
    const x509 = readX509(der);
    const keyId = issuerKeyId(parsed);
    const issuer = authorities.find(
      (each) => each.keyId === keyId && sameOctets(each.parsed.subject, parsed.issuer),
    );
    if (!issuer) return 'none of the authorities has issued it';
    if (!x509.verify(issuer.x509.publicKey)) return 'its signature is not that of the authority';
    const other = parsed.extensions.find(
      ({ critical, id: named }) => critical && !understood.includes(named),
    );
    if (other) return 'it has a critical extension that is not known here';
    return { der, parsed, x509, issuer, ...purposesOf(parsed) };
  } catch (error) {
    return `it is no certificate: ${(error as Error).message}`;
  }
}

/** nonRepudiation makes a certificate one for signing; clientAuth one for authentication. */
function purposesOf(parsed: ParsedCertificate): Pick<IssuedCertificate, 'isSigning' | 'isAuthentication'> {
  const usage = extensionOf(parsed, id.keyUsage);
  const bits = usage === undefined ? 0 : (new DerReader(usage).content(tag.bitString)[1] ?? 0);
  const canSign = (bits & 0x80) !== 0;
  const isSigning = canSign && (bits & 0x40) !== 0;
  return { isSigning, isAuthentication: canSign && !isSigning && usagesOf(parsed).includes(clientAuth) };
}

function usagesOf(parsed: ParsedCertificate): string[] {
  const value = extensionOf(parsed, id.extendedKeyUsage);
  const list = value && new DerReader(value).enter(tag.sequence);
  const found: string[] = [];
  while (list && !list.atEnd) found.push(list.objectIdentifier());
  return found;
}

/** Whether a certificate may sign OCSP responses for an authority now (RFC 6960 §4.2.2.2). */
export function isResponderOf(
  der: Uint8Array,
  issuer: Authority,
  nowMs: number,
): X509Certificate | undefined {
  const parsed = parseCertificate(der);
  const x509 = readX509(der);
  const isNow = parsed.notBeforeMs <= nowMs && nowMs <= parsed.notAfterMs;
  const usage = extensionOf(parsed, id.keyUsage);
  const maySign = usage === undefined || ((new DerReader(usage).content(tag.bitString)[1] ?? 0) & 0x80) !== 0;
  const isUnderstood = parsed.extensions.every(
    ({ critical, id: named }) => !critical || understood.includes(named),
  );
  const isDelegated =
    isNow &&
    maySign &&
    isUnderstood &&
    (issuerKeyId(parsed) ?? issuer.keyId) === issuer.keyId &&
    usagesOf(parsed).includes(ocspSigning) &&
    sameOctets(parsed.issuer, issuer.parsed.subject) &&
    x509.verify(issuer.x509.publicKey);
  return isDelegated ? x509 : undefined;
}

/** DistributionPointNames (DER) and addresses of a certificate's CRL. */
export function distributionPointsOf({ parsed }: IssuedCertificate): { names: Uint8Array[]; urls: string[] } {
  const value = extensionOf(parsed, id.distributionPoints);
  const [names, urls]: [Uint8Array[], string[]] = [[], []];
  const points = value && new DerReader(value).enter(tag.sequence);
  while (points && !points.atEnd) {
    const point = points.enter(tag.sequence);
    if (point.peek() !== context(0)) continue;
    const general = point.enter(context(0)).enter(context(0));
    while (!general.atEnd) {
      const name = general.whole();
      names.push(name);
      if (name[0] === context(6, 'primitive'))
        urls.push(Buffer.from(new DerReader(name).content(context(6, 'primitive'))).toString('latin1'));
    }
  }
  return { names, urls };
}

/** Verifies octets that an AlgorithmIdentifier and a key sign. */
export function isSignedBy(
  signed: Uint8Array,
  algorithm: Uint8Array,
  signature: Uint8Array,
  signer: X509Certificate,
): boolean {
  const hash = hashOf[new DerReader(algorithm).enter(tag.sequence).objectIdentifier()];
  return hash !== undefined && verify(hash, signed, signer.publicKey, signature);
}
