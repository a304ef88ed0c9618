import { type Bytes, hex } from '../core/bytes.ts';
import { DerError, DerReader } from '../core/der-reader.ts';
import { context, objectIdentifier, tag } from '../core/der-writer.ts';
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

export interface OcspRequest {
  readonly certIds: readonly CertId[];
  /** Value of the nonce extension: 1 to 128 octets (RFC 9654 §2.1). */
  readonly nonce: Bytes | null;
}

const idOf = (dotted: string): string => hex(objectIdentifier(dotted).subarray(2));
const hashes: Readonly<Record<string, CertIdHash>> = {
  [idOf(oid.sha1)]: 'sha1',
  [idOf(oid.sha256)]: 'sha256',
  [idOf(oid.sha384)]: 'sha384',
  [idOf(oid.sha512)]: 'sha512',
};
const nonceId = idOf(oid.ocspNonce);

/** More than a relying party has use for in one question; bounds the work one request can ask for. */
const certIdsMax = 16;

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
  const nonce = tbs.atEnd ? null : parseExtensions(tbs.enter(context(2)));
  tbs.end();
  return { certIds, nonce };
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

/** Returns the nonce, if there is one; others are ignored, unless they are critical (RFC 6960 §4.1.2). */
function parseExtensions(wrapper: DerReader): Bytes | null {
  const list = wrapper.enter(tag.sequence);
  wrapper.end();
  let nonce: Bytes | null = null;
  while (!list.atEnd) {
    const extension = list.enter(tag.sequence);
    const id = extension.objectIdentifier();
    const critical = extension.peek() === tag.boolean && extension.boolean();
    const value = extension.content(tag.octetString);
    extension.end();
    if (id !== nonceId && critical) list.fail('a critical extension that is not known here');
    if (id !== nonceId) continue;
    if (nonce) list.fail('two nonces');
    nonce = parseNonce(value) ?? list.fail('a nonce that is no OCTET STRING');
    if (nonce.length < 1 || nonce.length > 128) list.fail('a nonce that is not of 1 to 128 octets');
  }
  return nonce;
}

/** Nonce ::= OCTET STRING (RFC 9654 §2.1); undefined where the octets are none. */
function parseNonce(value: Bytes): Bytes | undefined {
  const reader = new DerReader(value);
  try {
    const nonce = reader.content(tag.octetString);
    reader.end();
    return nonce;
  } catch (error) {
    if (error instanceof DerError) return undefined;
    throw error;
  }
}
