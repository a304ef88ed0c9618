import type { KeyCheck } from './material.ts';
import { oddPrimes } from './residues.ts';

/** No factor is below this: a power of a prime has an exponent of at most 2048 / log2(757). */
const exponents = [2, ...oddPrimes].filter((exponent) => exponent <= 214);

/** For each exponent k the places of primes q ≡ 1 (mod k) among the residues, with the k-th powers modulo q. */
const filters = new Map(
  exponents.map((exponent) => [
    exponent,
    oddPrimes.flatMap((prime, place) =>
      (prime - 1) % exponent === 0 ? [{ place, powers: powersOf(exponent, prime) }] : [],
    ),
  ]),
);

function powersOf(exponent: number, prime: number): Uint8Array {
  const isPower = new Uint8Array(prime);
  for (let root = 0; root < prime; root++) {
    let power = 1;
    for (let i = 0; i < exponent; i++) power = (power * root) % prime;
    isPower[power] = 1;
  }
  return isPower;
}

/** The modulus is no power: that of a prime gives its factors away (NIST SP 800-89 §5.3.3; CA/Browser Forum BR §6.1.6). */
export const rsaPower: KeyCheck = (key) => {
  if (key.family !== 'rsa') return undefined;
  const { n, residues } = key;
  const log2 = log2Of(n);
  return exponents.some((exponent) => isPower(n, log2, exponent, residues))
    ? 'the modulus of the RSA key is a power (NIST SP 800-89 §5.3.3)'
    : undefined;
};

/** From this exponent on a root has less than 46 bits, and the logarithm as a double gives it to within a tenth. */
const shortRoots = 47;
/** Primes by which a candidate is tried first: what passes all of them is a power next to surely. */
const witnesses = oddPrimes.slice(-3).map((prime) => ({ prime, place: oddPrimes.indexOf(prime) }));

/** Long roots are passed over by what powers leave; for short ones there are few primes that tell, and it is quick to look. */
function isPower(n: bigint, log2: number, exponent: number, residues: readonly number[]): boolean {
  if (exponent < shortRoots) return isLongPower(n, exponent, residues);
  const root = Math.round(2 ** (log2 / exponent));
  return (
    witnesses.every(({ prime, place }) => powerModulo(root, exponent, prime) === residues[place]) &&
    BigInt(root) ** BigInt(exponent) === n
  );
}

function powerModulo(base: number, exponent: number, modulus: number): number {
  let [power, square] = [1, base % modulus];
  for (let left = exponent; left > 0; left >>= 1) {
    if (left & 1) power = (power * square) % modulus;
    square = (square * square) % modulus;
  }
  return power;
}

/** To the precision of a double. */
function log2Of(n: bigint): number {
  const digits = n.toString(16);
  const leading = digits.slice(0, 14);
  return Math.log2(Number.parseInt(leading, 16)) + 4 * (digits.length - leading.length);
}

function isLongPower(n: bigint, exponent: number, residues: readonly number[]): boolean {
  const mayBe = filters.get(exponent)?.every(({ place, powers }) => powers[residues[place] ?? 0] === 1);
  if (!mayBe) return false;
  const root = rootOf(n, exponent);
  return root ** BigInt(exponent) === n;
}

/** The integer part of the k-th root, by Newton's method from above. */
export function rootOf(n: bigint, exponent: number): bigint {
  const k = BigInt(exponent);
  let root = 1n << BigInt(Math.ceil(n.toString(2).length / exponent));
  for (;;) {
    const next = ((k - 1n) * root + n / root ** (k - 1n)) / k;
    if (next >= root) return root;
    root = next;
  }
}
