import { createPrivateKey, createPublicKey, generatePrimeSync, type KeyObject, sign } from 'node:crypto';
import { suites } from '../../core/asn1/algorithms.ts';
import { context, integer, sequence, tlv } from '../../core/asn1/der-writer.ts';
import { encodeName } from '../../core/asn1/name.ts';
import { sealSigned } from '../../core/asn1/signed-data.ts';

/** A key of a chip, and the PKCS#10 request for it. */
export interface ChipKey {
  readonly privateKey: KeyObject;
  /** DER. */
  readonly request: Uint8Array;
}

/**
 * Distinct RSA-2048 keys by the thousand: n primes make n(n-1)/2 moduli, where generating each key would cost 40 ms.
 * For load only; keys that share primes protect nothing.
 */
export class KeyFactory {
  readonly #primes: bigint[];
  #pairs: Generator<[bigint, bigint]>;

  /** Of so many primes that are looked for now. */
  constructor(primes: number) {
    // Two highest bits set, so that every product has 2048 bits; p ≢ 1 mod e.
    this.#primes = [];
    while (this.#primes.length < primes) {
      const prime = generatePrimeSync(1024, { bigint: true });
      if (prime >> 1022n === 3n && (prime - 1n) % 65537n !== 0n) this.#primes.push(prime);
    }
    this.#pairs = this.#everyPair();
  }

  /** Of primes that were found before. */
  static of(primes: readonly bigint[]): KeyFactory {
    const factory = new KeyFactory(0);
    factory.#primes.push(...primes);
    return factory;
  }

  /** A key that this factory has not given before; throws when there are no more. */
  next(): ChipKey {
    const { value, done } = this.#pairs.next();
    if (done) throw new Error('the key factory is out of keys');
    const privateKey = rsaKey(...value);
    return { privateKey, request: certificationRequest(privateKey) };
  }

  *#everyPair(): Generator<[bigint, bigint]> {
    for (const [i, p] of this.#primes.entries()) for (const q of this.#primes.slice(0, i)) yield [p, q];
  }
}

function rsaKey(p: bigint, q: bigint): KeyObject {
  const d = inverse(65537n, (p - 1n) * (q - 1n));
  const part = (value: bigint): string => {
    const text = value.toString(16);
    return Buffer.from(text.padStart(text.length + (text.length % 2), '0'), 'hex').toString('base64url');
  };
  const jwk = {
    kty: 'RSA',
    n: part(p * q),
    e: 'AQAB',
    d: part(d),
    p: part(p),
    q: part(q),
    dp: part(d % (p - 1n)),
    dq: part(d % (q - 1n)),
    qi: part(inverse(q, p)),
  };
  return createPrivateKey({ key: jwk, format: 'jwk' });
}

function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [value % modulus, modulus, 1n, 0n];
  while (a !== 0n) {
    const quotient = b / a;
    [a, b, x, y] = [b - quotient * a, a, y - quotient * x, x];
  }
  return ((y % modulus) + modulus) % modulus;
}

/** PKCS#10 (RFC 2986 §4) as quickly as can be: load generators make them by the thousand. */
export function certificationRequest(
  privateKey: KeyObject,
  suite: 'rsa2048-sha256' | 'p384-sha384' = 'rsa2048-sha256',
): Uint8Array {
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const info = sequence(integer(0), encodeName([['CN', 'ignored']]), publicKey, tlv(context(0)));
  return sealSigned(info, suites[suite], sign(suites[suite].hash, info, privateKey));
}
