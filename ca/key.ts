import { type HolderKeyType, suites } from '../core/algorithms.ts';
import { type Bytes, digest, equal } from '../core/bytes.ts';
import { DerReader } from '../core/der-reader.ts';
import { nullValue, objectIdentifier, sequence, tag } from '../core/der-writer.ts';
import { PkiError } from '../core/errors.ts';
import { oid } from '../core/oids.ts';

const rsaAlgorithm = sequence(objectIdentifier(oid.rsaEncryption), nullValue);
const p384Algorithm = sequence(objectIdentifier(oid.ecPublicKey), objectIdentifier(oid.secp384r1));

/** A public key that a holder may have certified. */
export interface CheckedKey {
  readonly type: HolderKeyType;
  /**
   * The hash by which a key is certified once, ever: SHA-256 of its canonical material (n‖e, or the uncompressed
   * point), so that no other encoding makes it a new key.
   */
  readonly keyHash: Bytes;
}

/** Reads a SubjectPublicKeyInfo strictly. Throws `invalid-key`, or `DerError` where it is no SubjectPublicKeyInfo. */
export function checkPublicKey(publicKey: Bytes): CheckedKey {
  const outer = new DerReader(publicKey);
  const info = outer.enter(tag.sequence);
  outer.end();
  const algorithm = info.whole(tag.sequence);
  const bits = info.bitString();
  info.end();
  if (equal(algorithm, rsaAlgorithm)) return { type: 'rsa2048', keyHash: checkRsa(bits) };
  if (equal(algorithm, p384Algorithm)) return { type: 'p384', keyHash: checkPoint(bits) };
  throw new PkiError('invalid-key', 'the public key is neither RSA nor on P-384');
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
function checkPoint(bits: Bytes): Bytes {
  if (bits.length !== 97 || bits[0] !== 4) {
    throw new PkiError('invalid-key', 'the public key is not an uncompressed P-384 point');
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
