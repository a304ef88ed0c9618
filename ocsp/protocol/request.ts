import { subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import {
  context,
  explicit,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  unsignedInteger,
} from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';

export type CertIdHash = 'sha1' | 'sha256' | 'sha384' | 'sha512';

/** What one Request of an OCSPRequest asks for. */
export interface CertId {
  /** undefined where the hash is none that this responder computes. */
  readonly hash: CertIdHash | undefined;
  readonly issuerNameHash: Bytes;
  readonly issuerKeyHash: Bytes;
  /** Octets of the serial number, unsigned. */
  readonly serial: Bytes;
  /** The CertID as it came: the answer repeats it octet for octet. */
  readonly encoded: Bytes;
}

/** A signature algorithm that an asker would rather have (RFC 6960 §4.4.7.1). */
export interface PreferredAlgorithm {
  /** Of sigIdentifier, hex of its content octets. */
  readonly signature: string;
  /** The key it should be made with; null where any will do. */
  readonly key: KeyCapability | null;
}

/** SMIMECapability ::= SEQUENCE { capabilityID OBJECT IDENTIFIER, parameters ANY OPTIONAL } (RFC 8551 §2.5.2) */
export interface KeyCapability {
  /** Of capabilityID, hex of its content octets. */
  readonly algorithm: string;
  /** DER, hex; null where they are left out. */
  readonly parameters: string | null;
}

export interface OcspRequest {
  readonly certIds: readonly CertId[];
  /** Value of the nonce extension: 1 to 128 octets (RFC 9654 §2.1). */
  readonly nonce: Bytes | null;
  /** In the asker's order; empty where it says nothing. */
  readonly preferred: readonly PreferredAlgorithm[];
  /** What the request asks for, in well-formed terms, that this responder does not do; null where there is nothing. */
  readonly unsupported: string | null;
}

const idOf = (dotted: string): string => hex(objectIdentifier(dotted).subarray(2));
const hashes: Readonly<Record<string, CertIdHash>> = {
  [idOf(oid.sha1)]: 'sha1',
  [idOf(oid.sha256)]: 'sha256',
  [idOf(oid.sha384)]: 'sha384',
  [idOf(oid.sha512)]: 'sha512',
};
const nonceId = idOf(oid.ocspNonce);
const preferredId = idOf(oid.ocspPreferredAlgorithms);
const acceptableId = idOf(oid.ocspAcceptableResponses);
const basicId = idOf(oid.ocspBasic);

/** What CertIDs by one hash about all certificates of one issuer have in common: everything but the serial number. */
export function certIdIssuer(certificate: Bytes, hash: 'sha1' | 'sha256'): Bytes {
  const { subject, publicKey } = parseCertificate(certificate);
  return Buffer.concat([
    sequence(objectIdentifier(oid[hash]), nullValue),
    octetString(digest(hash, subject)),
    octetString(digest(hash, subjectPublicKeyBits(publicKey))),
  ]);
}

/** A request about one certificate as RFC 9919 §3.1.1 has it, and with a nonce where one is given. */
export function encodeOcspRequest(issuer: Bytes, serial: Bytes, nonce?: Bytes): Bytes {
  const list = sequence(sequence(sequence(issuer, unsignedInteger(serial))));
  const nonces = nonce ? [explicit(2, sequence(extension(oid.ocspNonce, octetString(nonce))))] : [];
  return sequence(sequence(list, ...nonces));
}

/** More than a relying party has use for in one question; bounds the work one request can ask for. */
const certIdsMax = 16;
/** More than there are algorithms that anybody uses. */
const preferredMax = 16;

/**
 *     OCSPRequest ::= SEQUENCE { tbsRequest TBSRequest, optionalSignature [0] EXPLICIT Signature OPTIONAL }
 *     TBSRequest  ::= SEQUENCE { version [0] EXPLICIT DEFAULT v1, requestorName [1] EXPLICIT OPTIONAL,
 *                                requestList SEQUENCE OF Request, requestExtensions [2] EXPLICIT OPTIONAL }
 *
 * RFC 6960 §4.1.1. A signature is skipped: this responder asks for none. Throws `DerError` for anything else.
 */
export function parseOcspRequest(der: Bytes): OcspRequest {
  const outer = new DerReader(der);
  const request = outer.enter(tag.sequence);
  outer.end();
  const tbs = request.enter(tag.sequence);
  if (request.peek() === context(0)) request.whole(context(0));
  request.end();

  if (tbs.peek() === context(0)) {
    const version = tbs.enter(context(0));
    if (version.smallInteger() !== 0) version.fail('not version 1 of an OCSPRequest');
    version.end();
  }
  if (tbs.peek() === context(1)) passOverRequestor(tbs.enter(context(1)));
  const list = tbs.enter(tag.sequence);
  const certIds: CertId[] = [];
  const unsupported: string[] = [];
  while (!list.atEnd) certIds.push(parseRequest(list.enter(tag.sequence), unsupported));
  if (certIds.length === 0) list.fail('no request');
  if (certIds.length > certIdsMax) unsupported.push(`more than ${certIdsMax} certificates in one request`);
  const extensions = tbs.atEnd ? none : parseRequestExtensions(tbs.enter(context(2)), unsupported);
  tbs.end();
  return { certIds, ...extensions, unsupported: unsupported[0] ?? null };
}

/** A GeneralName (RFC 5280 §4.2.1.6). Requestors are not identified by it here, so its content is not parsed. */
function passOverRequestor(wrapper: DerReader): void {
  const first = wrapper.peek() ?? 0;
  if ((first & 0xc0) !== 0x80 || (first & 0x1f) > 8) wrapper.fail('a requestorName that is no GeneralName');
  wrapper.whole();
  wrapper.end();
}

/** Request ::= SEQUENCE { reqCert CertID, singleRequestExtensions [0] EXPLICIT OPTIONAL } */
function parseRequest(request: DerReader, unsupported: string[]): CertId {
  const encoded = request.whole(tag.sequence);
  if (request.peek() === context(0)) {
    // None of them is known here: a nonce, for one, means something for a whole request only (RFC 6960 §4.4.1).
    for (const { critical } of parseExtensions(request.enter(context(0))))
      if (critical) unsupported.push('a critical extension of a single request');
  }
  request.end();
  const certId = new DerReader(encoded).enter(tag.sequence);
  const algorithm = certId.enter(tag.sequence);
  const hash = hashes[algorithm.objectIdentifier()];
  // Parameters of these hashes are absent or NULL (RFC 5754 §2).
  if (!algorithm.atEnd && hex(algorithm.whole()) !== '0500')
    algorithm.fail('hash parameters that are not NULL');
  algorithm.end();
  const issuerNameHash = certId.content(tag.octetString);
  const issuerKeyHash = certId.content(tag.octetString);
  const serialOctets = certId.integerOctets();
  const serial = serialOctets.length > 1 && serialOctets[0] === 0 ? serialOctets.subarray(1) : serialOctets;
  certId.end();
  return { hash, issuerNameHash, issuerKeyHash, serial, encoded };
}

type RequestExtensions = Pick<OcspRequest, 'nonce' | 'preferred'>;
const none: RequestExtensions = { nonce: null, preferred: [] };

/** Others than those known here are passed over, unless they are critical (RFC 6960 §4.1.2). */
function parseRequestExtensions(wrapper: DerReader, unsupported: string[]): RequestExtensions {
  const seen = new Set<string>();
  let { nonce, preferred } = none;
  for (const { id, critical, value } of parseExtensions(wrapper)) {
    if (seen.has(id)) wrapper.fail('an extension that is there twice');
    seen.add(id);
    if (id === nonceId) nonce = parseNonce(value);
    else if (id === preferredId) preferred = parsePreferred(value);
    else if (id === acceptableId) {
      // Each responder answers with the basic type (§4.4.3); who insists on another gets none.
      if (!parseAcceptable(value).includes(basicId) && critical)
        unsupported.push('a response type other than id-pkix-ocsp-basic');
    } else if (critical) unsupported.push('a critical extension that is not known here');
  }
  return { nonce, preferred };
}

interface Extension {
  /** Hex of its content octets. */
  readonly id: string;
  readonly critical: boolean;
  readonly value: Bytes;
}

/** Extensions ::= SEQUENCE OF SEQUENCE { extnID, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING } */
function parseExtensions(wrapper: DerReader): Extension[] {
  const list = wrapper.enter(tag.sequence);
  wrapper.end();
  const extensions: Extension[] = [];
  while (!list.atEnd) {
    const extension = list.enter(tag.sequence);
    const id = extension.objectIdentifier();
    const critical = extension.peek() === tag.boolean && extension.boolean();
    extensions.push({ id, critical, value: extension.content(tag.octetString) });
    extension.end();
  }
  return extensions;
}

/** Nonce ::= OCTET STRING (SIZE(1..128)) (RFC 9654 §2.1) */
function parseNonce(value: Bytes): Bytes {
  const reader = new DerReader(value);
  const nonce = whatIs('a nonce that is no OCTET STRING', () => {
    const content = reader.content(tag.octetString);
    reader.end();
    return content;
  });
  if (nonce.length < 1 || nonce.length > 128) reader.fail('a nonce that is not of 1 to 128 octets');
  return nonce;
}

/**
 *     PreferredSignatureAlgorithms ::= SEQUENCE OF SEQUENCE {
 *         sigIdentifier AlgorithmIdentifier, pubKeyAlgIdentifier SMIMECapability OPTIONAL }
 */
function parsePreferred(value: Bytes): PreferredAlgorithm[] {
  return whatIs('a list of preferred algorithms that is none', () => {
    const preferred: PreferredAlgorithm[] = [];
    const list = listIn(value);
    while (!list.atEnd) {
      const entry = list.enter(tag.sequence);
      const { algorithm: signature } = parseAlgorithm(entry.enter(tag.sequence));
      const key = entry.atEnd ? null : parseAlgorithm(entry.enter(tag.sequence));
      entry.end();
      // What stands further behind is the asker's last choice: it is read, and not remembered.
      if (preferred.length < preferredMax) preferred.push({ signature, key });
    }
    return preferred;
  });
}

/** AlgorithmIdentifier and SMIMECapability have one shape. */
function parseAlgorithm(reader: DerReader): KeyCapability {
  const algorithm = reader.objectIdentifier();
  const parameters = reader.atEnd ? null : hex(reader.whole());
  reader.end();
  return { algorithm, parameters };
}

/** AcceptableResponses ::= SEQUENCE OF OBJECT IDENTIFIER (RFC 6960 §4.4.3), hex of the content octets of each */
function parseAcceptable(value: Bytes): string[] {
  return whatIs('a list of acceptable responses that is none', () => {
    const types: string[] = [];
    const list = listIn(value);
    while (!list.atEnd) types.push(list.objectIdentifier());
    return types;
  });
}

/** The elements of a SEQUENCE OF that is all of a value. */
function listIn(value: Bytes): DerReader {
  const reader = new DerReader(value);
  const list = reader.enter(tag.sequence);
  reader.end();
  return list;
}

/** Says of an extension's value what it is not. */
function whatIs<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof DerError) throw new DerError(what, error.offset);
    throw error;
  }
}
