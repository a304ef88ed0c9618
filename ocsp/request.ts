import { subjectPublicKeyBits } from '../core/algorithms.ts';
import { type Bytes, digest, hex } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import { DerError, DerReader } from '../core/der-reader.ts';
import {
  context,
  explicit,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  unsignedInteger,
} from '../core/der-writer.ts';
import { extension } from '../core/extension.ts';
import { oid } from '../core/oids.ts';

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
  /** AlgorithmIdentifier DER of the key it should be made with, hex; null where any will do. */
  readonly key: string | null;
}

export interface OcspRequest {
  readonly certIds: readonly CertId[];
  /** Value of the nonce extension: 1 to 128 octets (RFC 9654 §2.1). */
  readonly nonce: Bytes | null;
  /** In the asker's order; empty where it says nothing. */
  readonly preferred: readonly PreferredAlgorithm[];
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

const sha1 = sequence(objectIdentifier(oid.sha1), nullValue);

/** What CertIDs by SHA-1 about all certificates of one issuer have in common: everything but the serial number. */
export function certIdIssuer(certificate: Bytes): Bytes {
  const { subject, publicKey } = parseCertificate(certificate);
  return Buffer.concat([
    sha1,
    octetString(digest('sha1', subject)),
    octetString(digest('sha1', subjectPublicKeyBits(publicKey))),
  ]);
}

/** A request about one certificate as RFC 5019 §2.1.1 has it, and with a nonce where one is given. */
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
  if (tbs.peek() === context(1)) tbs.whole(context(1));
  const list = tbs.enter(tag.sequence);
  const certIds: CertId[] = [];
  while (!list.atEnd) {
    if (certIds.length === certIdsMax) list.fail('too many requests in one');
    certIds.push(parseRequest(list.enter(tag.sequence)));
  }
  if (certIds.length === 0) list.fail('no request');
  const extensions = tbs.atEnd ? new Map<string, Bytes>() : parseExtensions(tbs.enter(context(2)));
  tbs.end();
  const [nonce, preferred] = [extensions.get(nonceId), extensions.get(preferredId)];
  return {
    certIds,
    nonce: nonce ? parseNonce(nonce) : null,
    preferred: preferred ? parsePreferred(preferred) : [],
  };
}

/** Request ::= SEQUENCE { reqCert CertID, singleRequestExtensions [0] EXPLICIT OPTIONAL } */
function parseRequest(request: DerReader): CertId {
  const encoded = request.whole(tag.sequence);
  if (request.peek() === context(0)) parseExtensions(request.enter(context(0)));
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

/** Values of the extensions we know, by hex of their id; others are ignored, unless they are critical (RFC 6960 §4.1.2). */
function parseExtensions(wrapper: DerReader): Map<string, Bytes> {
  const list = wrapper.enter(tag.sequence);
  wrapper.end();
  const known = new Map<string, Bytes>();
  while (!list.atEnd) {
    const extension = list.enter(tag.sequence);
    const id = extension.objectIdentifier();
    const critical = extension.peek() === tag.boolean && extension.boolean();
    const value = extension.content(tag.octetString);
    extension.end();
    if (id !== nonceId && id !== preferredId) {
      if (critical) list.fail('a critical extension that is not known here');
      continue;
    }
    if (known.has(id)) list.fail(id === nonceId ? 'two nonces' : 'two lists of preferred algorithms');
    if (id === nonceId) parseNonce(value);
    else parsePreferred(value);
    known.set(id, value);
  }
  return known;
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
  const reader = new DerReader(value);
  return whatIs('a list of preferred algorithms that is none', () => {
    const list = reader.enter(tag.sequence);
    reader.end();
    const preferred: PreferredAlgorithm[] = [];
    while (!list.atEnd) {
      if (preferred.length === preferredMax) list.fail('too many');
      const entry = list.enter(tag.sequence);
      const algorithm = entry.enter(tag.sequence);
      const signature = algorithm.objectIdentifier();
      if (!algorithm.atEnd) algorithm.whole();
      algorithm.end();
      const key = entry.atEnd ? null : hex(entry.whole(tag.sequence));
      entry.end();
      preferred.push({ signature, key });
    }
    return preferred;
  });
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
