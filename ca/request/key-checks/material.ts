import type { KeyType } from '../../../core/asn1/algorithms.ts';
import type { Bytes } from '../../../core/runtime/bytes.ts';

/** What a public key is made of, as its checks look at it. */
export type KeyMaterial = RsaMaterial | EcMaterial;

export interface RsaMaterial {
  readonly family: 'rsa';
  readonly modulusBits: number;
  /** Big-endian, without leading zeros. */
  readonly modulus: Bytes;
  readonly exponent: Bytes;
  /** The modulus, and what is left of it by each odd prime below 752, in the order of `oddPrimes`. */
  readonly n: bigint;
  readonly residues: readonly number[];
}

export interface EcMaterial {
  readonly family: 'ec';
  readonly type: Exclude<KeyType, 'rsa2048'>;
  /** Of the curve's field, octets. */
  readonly coordinateLength: number;
  /** The subjectPublicKey bits: 04 ‖ x ‖ y. */
  readonly point: Bytes;
}

/** One defect that a key may have: says what is wrong, or undefined. Keys of the other family have it never. */
export type KeyCheck = (key: KeyMaterial) => string | undefined;
