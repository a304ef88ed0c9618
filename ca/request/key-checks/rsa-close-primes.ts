import type { KeyCheck } from './material.ts';

/** As many as Boulder and Let's Encrypt look: the keys of CVE-2022-26320 fall in the first. */
const rounds = 100;

/** A square leaves a square modulo each of these: most numbers that are none fail early. */
const moduli = [64, 63, 65, 11, 17, 19, 23, 31];
const product = moduli.reduce((all, modulus) => all * modulus, 1);
const squares = moduli.map((modulus) => {
  const isSquare = new Uint8Array(modulus);
  for (let root = 0; root < modulus; root++) isSquare[(root * root) % modulus] = 1;
  return isSquare;
});

/**
 * The two primes are not so close that Fermat's method finds them (CVE-2022-26320; CA/Browser Forum BR §6.1.1.3): no
 * a among the first above √n has a² - n = b². Remainders are carried along in numbers; only what passes all of them
 * has its root drawn.
 */
export const rsaClosePrimes: KeyCheck = (key) => {
  if (key.family !== 'rsa') return undefined;
  const { n } = key;
  let a = squareRoot(n);
  if (a * a < n) a += 1n;
  let rest = Number((a * a - n) % BigInt(product));
  let step = Number((2n * a + 1n) % BigInt(product));
  for (let round = 0; round < rounds; round++) {
    if (mayBeSquare(rest)) {
      const b2 = (a + BigInt(round)) ** 2n - n;
      const b = squareRoot(b2);
      if (b * b === b2) return 'the primes of the RSA key are too close to each other (CVE-2022-26320)';
    }
    rest = (rest + step) % product;
    step += 2;
  }
  return undefined;
};

const mayBeSquare = (rest: number): boolean =>
  moduli.every((modulus, i) => squares[i]?.[rest % modulus] === 1);

/** The integer part of a square root; precision doubles with each division. */
export function squareRoot(n: bigint): bigint {
  if (n < 2n) return n;
  const last = (n.toString(2).length - 1) >>> 1;
  let root = 1n;
  let have = 0;
  for (let shift = 32 - Math.clz32(last) - 1; shift >= 0; shift--) {
    const before = have;
    have = last >>> shift;
    root = (root << BigInt(have - before - 1)) + (n >> BigInt(2 * last - before - have + 1)) / root;
  }
  return root * root > n ? root - 1n : root;
}
