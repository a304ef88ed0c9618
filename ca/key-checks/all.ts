import { debianWeak } from './debian-weak.ts';
import { ecPoint } from './ec-point.ts';
import type { KeyCheck } from './material.ts';
import { rsaClosePrimes } from './rsa-close-primes.ts';
import { rsaExponent } from './rsa-exponent.ts';
import { rsaRoca } from './rsa-roca.ts';
import { rsaSize } from './rsa-size.ts';
import { rsaSmallFactors } from './rsa-small-factors.ts';

/**
 * Every check that needs nothing but the key, in the order in which they are made: form first. That a key is certified
 * once, and that nobody has blocked it, is for the record to say.
 */
export const keyChecks = (debianBlocklists: readonly string[] = []): readonly KeyCheck[] => [
  rsaSize,
  rsaExponent,
  ecPoint,
  rsaSmallFactors,
  rsaRoca,
  rsaClosePrimes,
  debianWeak(debianBlocklists),
];
