import { type HolderKeyType, type KeyType, suites } from '../core/algorithms.ts';
import { type Bytes, digest, equal } from '../core/bytes.ts';
import { DerReader } from '../core/der-reader.ts';
import { nullValue, objectIdentifier, sequence, tag } from '../core/der-writer.ts';
import { PkiError } from '../core/errors.ts';
import { oid } from '../core/oids.ts';

const rsaAlgorithm = sequence(objectIdentifier(oid.rsaEncryption), nullValue);
const curve = (id: string): Bytes => sequence(objectIdentifier(oid.ecPublicKey), objectIdentifier(id));

/** What tells the types of keys apart, and how the material of each is checked and hashed. */
const keyTypes: Readonly<Record<KeyType, { algorithm: Bytes; hash: (bits: Bytes) => Bytes }>> = {
  rsa2048: { algorithm: rsaAlgorithm, hash: checkRsa },
  p256: { algorithm: curve(oid.secp256r1), hash: (bits) => checkPoint(bits, 65) },
  p384: { algorithm: curve(oid.secp384r1), hash: (bits) => checkPoint(bits, 97) },
};

export const holderKeyTypes: readonly HolderKeyType[] = ['rsa2048', 'p384'];

/** A public key that may be certified. */
export interface CheckedKey<Type extends KeyType = HolderKeyType> {
  readonly type: Type;
  /**
   * The hash by which a key is certified once, ever: SHA-256 of its canonical material (n‖e, or the uncompressed
   * point), so that no other encoding makes it a new key.
   */
  readonly keyHash: Bytes;
}

/** Reads a SubjectPublicKeyInfo strictly. Throws `invalid-key`, or `DerError` where it is no SubjectPublicKeyInfo. */
export function checkPublicKey<Type extends KeyType>(
  publicKey: Bytes,
  allowed: readonly Type[],
): CheckedKey<Type> {
  const outer = new DerReader(publicKey);
  const info = outer.enter(tag.sequence);
  outer.end();
  const algorithm = info.whole(tag.sequence);
  const bits = info.bitString();
  info.end();
  const type = allowed.find((candidate) => equal(algorithm, keyTypes[candidate].algorithm));
  if (!type) throw new PkiError('invalid-key', `the public key is none of ${allowed.join(', ')}`);
  return { type, keyHash: keyTypes[type].hash(bits) };
}

function checkRsa(bits: Bytes): Bytes {
  const outer = new DerReader(bits);
  const key = outer.enter(tag.sequence);
  outer.end();
  const modulus = key.unsigned();
  const exponent = key.unsigned();
  key.end();
  const { modulusBits } = suites['rsa2048-sha256'].key as { modulusBits: number };
  if (modulus.length !== modulusBits / 8 || (modulus[0] ?? 0) < 0x80) {
    throw new PkiError('invalid-key', `the RSA modulus is not of ${modulusBits} bits`);
  }
  if (((modulus.at(-1) ?? 0) & 1) === 0) throw new PkiError('invalid-key', 'the RSA modulus is even');
  if (!equal(exponent, Uint8Array.of(1, 0, 1))) {
    throw new PkiError('invalid-key', 'the RSA public exponent is not 65537');
  }
  return digest('sha256', modulus, exponent);
}

/** That the point is on its curve is checked by the proof of possession, which no library verifies otherwise. */
function checkPoint(bits: Bytes, length: number): Bytes {
  if (bits.length !== length || bits[0] !== 4) {
    throw new PkiError('invalid-key', 'the public key is not an uncompressed point of its curve');
  }
  return digest('sha256', bits);
}

/** The same hash for keys of our own, of any suite. */
export function publicKeyHash(publicKey: Bytes): Bytes {
  const info = new DerReader(publicKey).enter(tag.sequence);
  const algorithm = info.whole(tag.sequence);
  const bits = info.bitString();
  if (!equal(algorithm, rsaAlgorithm)) return digest('sha256', bits);
  const key = new DerReader(bits).enter(tag.sequence);
  return digest('sha256', key.unsigned(), key.unsigned());
}
