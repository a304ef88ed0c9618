import { debianWeak } from './debian-weak.ts';
import { ecPoint } from './ec-point.ts';
import type { KeyCheck } from './material.ts';
import { rsaClosePrimes } from './rsa-close-primes.ts';
import { rsaExponent } from './rsa-exponent.ts';
import { rsaPower } from './rsa-power.ts';
import { rsaPrime } from './rsa-prime.ts';
import { rsaRoca } from './rsa-roca.ts';
import { rsaSize } from './rsa-size.ts';
import { rsaSmallFactors } from './rsa-small-factors.ts';

export interface KeyCheckOptions {
  /** See `debianWeak`. */
  readonly debianBlocklists: readonly string[];
  /** Whether RSA moduli are tried for being prime: see `rsaPrime` for its cost. */
  readonly primeModuli: 'refused' | 'not-tried';
}

/**
 * Every check that needs nothing but the key, in the order in which they are made: form first, the dearest last. That a key
 * is certified once, and that it is not blocked, is for the record to say.
 */
export const keyChecks = ({
  debianBlocklists = [],
  primeModuli = 'refused',
}: Partial<KeyCheckOptions> = {}): readonly KeyCheck[] => [
  rsaSize,
  rsaExponent,
  ecPoint,
  rsaSmallFactors,
  rsaRoca,
  rsaClosePrimes,
  rsaPower,
  debianWeak(debianBlocklists),
  ...(primeModuli === 'refused' ? [rsaPrime] : []),
];
