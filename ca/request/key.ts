import { type HolderKeyType, type KeyType, rsaPublicKeyInfo, suites } from '../../core/asn1/algorithms.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import { nullValue, objectIdentifier, sequence, tag } from '../../core/asn1/der-writer.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type Bytes, digest, equal, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { keyChecks } from './key-checks/all.ts';
import type { KeyCheck, KeyMaterial } from './key-checks/material.ts';
import { residuesOf } from './key-checks/residues.ts';

const rsaAlgorithm = sequence(objectIdentifier(oid.rsaEncryption), nullValue);
/** As some devices send it: parameters that must be NULL (RFC 3279 §2.3.1) left out. */
const bareRsaAlgorithm = sequence(objectIdentifier(oid.rsaEncryption));
const isRsa = (algorithm: Bytes): boolean =>
  equal(algorithm, rsaAlgorithm) || equal(algorithm, bareRsaAlgorithm);
const curve = (id: string): Bytes => sequence(objectIdentifier(oid.ecPublicKey), objectIdentifier(id));

interface KeyForm {
  readonly isOf: (algorithm: Bytes) => boolean;
  readonly read: (bits: Bytes) => KeyMaterial;
}

/** What distinguishes the types of keys, and what each is made of. */
const keyForms: Readonly<Record<KeyType, KeyForm>> = {
  rsa2048: { isOf: isRsa, read: readRsa },
  p256: {
    isOf: (algorithm) => equal(algorithm, curve(oid.secp256r1)),
    read: (point) => ({ family: 'ec', type: 'p256', coordinateLength: 32, point }),
  },
  p384: {
    isOf: (algorithm) => equal(algorithm, curve(oid.secp384r1)),
    read: (point) => ({ family: 'ec', type: 'p384', coordinateLength: 48, point }),
  },
};

export const holderKeyTypes: readonly HolderKeyType[] = ['rsa2048', 'p384'];

/** Of clients and responders. */
export const clientKeyTypes = ['rsa2048', 'p256', 'p384'] as const satisfies readonly KeyType[];

/** A public key that may be certified. */
export interface CheckedKey<Type extends KeyType = HolderKeyType> {
  readonly type: Type;
  /**
   * The hash by which a key is certified once, ever: SHA-256 of its canonical material (n‖e, or the uncompressed
   * point), so that no other encoding makes it a new key.
   */
  readonly keyHash: Bytes;
  /** SubjectPublicKeyInfo DER in the one form that certificates have. */
  readonly publicKey: Bytes;
}

const allChecks = keyChecks();

/** Reads a SubjectPublicKeyInfo strictly. Throws `invalid-key`, or `DerError` where it is no SubjectPublicKeyInfo. */
export function checkPublicKey<Type extends KeyType>(
  publicKey: Bytes,
  allowed: readonly Type[],
  checks: readonly KeyCheck[] = allChecks,
): CheckedKey<Type> {
  const outer = new DerReader(publicKey);
  const info = outer.enter(tag.sequence);
  outer.end();
  const algorithm = info.whole(tag.sequence);
  const bits = info.bitString();
  info.end();
  const type = allowed.find((candidate) => keyForms[candidate].isOf(algorithm));
  if (!type) throw new PkiError('invalid-key', `the public key is none of ${allowed.join(', ')}`);
  const material = keyForms[type].read(bits);
  for (const check of checks) {
    const wrong = check(material);
    if (wrong !== undefined) throw new PkiError('invalid-key', wrong);
  }
  const canonical = material.family === 'rsa' ? rsaPublicKeyInfo(material.modulus) : publicKey;
  return { type, keyHash: hashOf(material), publicKey: canonical };
}

/** RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }                      (RFC 8017 §A.1.1) */
function readRsaKey(bits: Bytes): { modulus: Bytes; exponent: Bytes } {
  const outer = new DerReader(bits);
  const key = outer.enter(tag.sequence);
  outer.end();
  const modulus = key.unsigned();
  const exponent = key.unsigned();
  key.end();
  return { modulus, exponent };
}

function readRsa(bits: Bytes): KeyMaterial {
  const { modulus, exponent } = readRsaKey(bits);
  const { modulusBits } = suites['rsa2048-sha256'].key as { modulusBits: number };
  const n = BigInt(`0x${hex(modulus)}`);
  return { family: 'rsa', modulusBits, modulus, exponent, n, residues: residuesOf(n) };
}

const hashOf = (key: KeyMaterial): Bytes =>
  key.family === 'rsa' ? digest('sha256', key.modulus, key.exponent) : digest('sha256', key.point);

/** The same hash for any key, of our own or of a certificate, without a check. Throws `DerError`. */
export function publicKeyHash(publicKey: Bytes): Bytes {
  const info = new DerReader(publicKey).enter(tag.sequence);
  const algorithm = info.whole(tag.sequence);
  const bits = info.bitString();
  if (!isRsa(algorithm)) return digest('sha256', bits);
  const { modulus, exponent } = readRsaKey(bits);
  return digest('sha256', modulus, exponent);
}
