import { createPublicKey, verify } from 'node:crypto';
import { type Bytes, equal, view } from '../runtime/bytes.ts';
import { DerReader } from './der-reader.ts';
import {
  bitString,
  integer,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  unsignedInteger,
} from './der-writer.ts';
import { oid } from './oids.ts';

/** Everything about one signature suite stands in its row; no other code asks which suite it is. */
export interface Suite {
  readonly name: SuiteName;
  readonly key:
    | { readonly type: 'rsa'; readonly modulusBits: number }
    | { readonly type: 'ec'; readonly curve: string; readonly coordinateLength: number };
  readonly hash: 'sha256' | 'sha384';
  /** Holder keys that a CA of this suite certifies; null where it is no suite for holders. */
  readonly holderKey: HolderKeyType | null;
  /** AlgorithmIdentifier DER: RSA with NULL parameters (RFC 4055 §5), ECDSA with none (RFC 5758 §3.2). */
  readonly algorithmIdentifier: Bytes;
  readonly pkcs11: {
    /**
     * PKCS#11 v2.40 CKM_ number of the mechanism that signs a digest: all tokens know these, while they differ in which
     * they know that hash; and a CRL of a megabyte need not travel to a token.
     */
    readonly mechanism: number;
    /** What C_Sign is given for a digest. */
    readonly input: (digest: Bytes) => Bytes;
    /** Octets that C_Sign may return. */
    readonly signatureLengthMax: number;
    /** PKCS#11 returns ECDSA as r‖s; X.509 wants SEQUENCE {r, s} (RFC 3279 §2.2.3). */
    readonly toX509: (signature: Bytes) => Bytes;
  };
}

/** Keys that holders may have certified: today's card, and the card of fiscal 2028. */
export type HolderKeyType = 'rsa2048' | 'p384';

/** Keys that anybody may have certified here: OCSP responders also have faster ones. */
export type KeyType = HolderKeyType | 'p256';

/** How a key of each type signs. */
export const suiteOf: Readonly<Record<KeyType, SuiteName>> = {
  rsa2048: 'rsa2048-sha256',
  p256: 'p256-sha256',
  p384: 'p384-sha384',
};

/** RSA identifiers without parameters, which MUST be NULL and MUST be read where they are absent too (RFC 4055 §5). */
const withoutParameters = (identifier: Bytes): Bytes =>
  sequence(new DerReader(identifier).enter(tag.sequence).whole(tag.oid));

/** Whether an AlgorithmIdentifier (DER) says that something is signed as a suite signs. */
export function isSignatureAlgorithm({ key, algorithmIdentifier }: Suite, identifier: Bytes): boolean {
  if (equal(identifier, algorithmIdentifier)) return true;
  return key.type === 'rsa' && equal(identifier, withoutParameters(algorithmIdentifier));
}

export type SuiteName = 'rsa2048-sha256' | 'p256-sha256' | 'p384-sha384';

/** In one piece of memory: it is made once for each OCSP response. Halves are at most 66 octets, lengths one octet. */
function ecdsaToX509(signature: Bytes): Bytes {
  const half = signature.length >>> 1;
  const [r, s] = [firstOctet(signature, 0, half), firstOctet(signature, half, signature.length)];
  const rSign = (signature[r] ?? 0) >>> 7;
  const sSign = (signature[s] ?? 0) >>> 7;
  const rLength = half - r + rSign;
  const sLength = signature.length - s + sSign;
  const out = Buffer.allocUnsafe(6 + rLength + sLength);
  out[0] = tag.sequence;
  out[1] = 4 + rLength + sLength;
  out[2] = tag.integer;
  out[3] = rLength;
  // Memory out of the pool is not empty.
  out[4] = 0;
  out.set(signature.subarray(r, half), 4 + rSign);
  out[4 + rLength] = tag.integer;
  out[5 + rLength] = sLength;
  out[6 + rLength] = 0;
  out.set(signature.subarray(s), 6 + rLength + sSign);
  return out;
}

/** Where an integer begins: leading zeros are left out, but for the last octet (X.690 §8.3.2). */
function firstOctet(octets: Bytes, start: number, end: number): number {
  let at = start;
  while (at < end - 1 && octets[at] === 0) at++;
  return at;
}

/** DigestInfo ::= SEQUENCE { digestAlgorithm, digest OCTET STRING }, all but the digest (RFC 8017 §9.2 note 1). */
const sha256DigestInfo = sequence(
  sequence(objectIdentifier(oid.sha256), nullValue),
  octetString(new Uint8Array(32)),
).subarray(0, -32);

const asIs = (digest: Bytes): Bytes => digest;

export const suites: Readonly<Record<SuiteName, Suite>> = {
  'rsa2048-sha256': {
    name: 'rsa2048-sha256',
    key: { type: 'rsa', modulusBits: 2048 },
    hash: 'sha256',
    holderKey: 'rsa2048',
    algorithmIdentifier: sequence(objectIdentifier('1.2.840.113549.1.1.11'), nullValue),
    pkcs11: {
      mechanism: 0x01,
      input: (digest) => Buffer.concat([sha256DigestInfo, digest]),
      signatureLengthMax: 256,
      toX509: (signature) => signature,
    },
  },
  'p256-sha256': {
    name: 'p256-sha256',
    key: { type: 'ec', curve: oid.secp256r1, coordinateLength: 32 },
    hash: 'sha256',
    holderKey: null,
    algorithmIdentifier: sequence(objectIdentifier('1.2.840.10045.4.3.2')),
    pkcs11: { mechanism: 0x1041, input: asIs, signatureLengthMax: 64, toX509: ecdsaToX509 },
  },
  'p384-sha384': {
    name: 'p384-sha384',
    key: { type: 'ec', curve: oid.secp384r1, coordinateLength: 48 },
    hash: 'sha384',
    holderKey: 'p384',
    algorithmIdentifier: sequence(objectIdentifier('1.2.840.10045.4.3.3')),
    pkcs11: { mechanism: 0x1041, input: asIs, signatureLengthMax: 96, toX509: ecdsaToX509 },
  },
};

const rsaKeyAlgorithm = sequence(objectIdentifier(oid.rsaEncryption), nullValue);
const ecKeyAlgorithm = (curve: string): Bytes =>
  sequence(objectIdentifier(oid.ecPublicKey), objectIdentifier(curve));
const keyAlgorithm = (key: Suite['key']): Bytes =>
  key.type === 'rsa' ? rsaKeyAlgorithm : ecKeyAlgorithm(key.curve);

/** SubjectPublicKeyInfo of an RSA key with exponent 65537 (RFC 3279 §2.3.1). */
export function rsaPublicKeyInfo(modulus: Bytes): Bytes {
  return publicKeyInfo(rsaKeyAlgorithm, sequence(unsignedInteger(modulus), integer(65537)));
}

/** SubjectPublicKeyInfo of a point on a named curve (RFC 5480 §2). */
export function ecPublicKeyInfo(curve: string, uncompressedPoint: Bytes): Bytes {
  return publicKeyInfo(ecKeyAlgorithm(curve), uncompressedPoint);
}

function publicKeyInfo(algorithm: Bytes, key: Bytes): Bytes {
  return sequence(algorithm, bitString(key));
}

/** The suite whose keys are of a public key's type; undefined for a type that none is of. */
export function suiteOfKey(publicKeyInfoDer: Bytes): Suite | undefined {
  const algorithm = new DerReader(publicKeyInfoDer).enter(tag.sequence).whole(tag.sequence);
  return Object.values(suites).find(({ key }) => equal(keyAlgorithm(key), algorithm));
}

/** The subjectPublicKey bits of a SubjectPublicKeyInfo: what key identifiers hash (RFC 5280 §4.2.1.2, RFC 6960 §4.1.1). */
export function subjectPublicKeyBits(publicKeyInfoDer: Bytes): Bytes {
  const info = new DerReader(publicKeyInfoDer).enter(tag.sequence);
  info.whole(tag.sequence);
  return info.bitString();
}

/** Whether `signature` (X.509 form) over `message` is that key's (SPKI DER). */
export function verifySignature(
  suite: Suite,
  publicKeyInfoDer: Bytes,
  message: Bytes,
  signature: Bytes,
): boolean {
  const key = createPublicKey({ key: view(publicKeyInfoDer), format: 'der', type: 'spki' });
  return verify(suite.hash, message, key, signature);
}
