import type { KeyCheck } from './material.ts';
import { oddPrimes } from './residues.ts';

/** Chips with the flaw draw primes as k·M + (65537^a mod M); primes up to this one divide every M they use. */
const largest = 167;

/** For each such prime, which residues are powers of 65537. */
const powers = oddPrimes
  .filter((prime) => prime <= largest)
  .map((prime) => {
    const isPower = new Uint8Array(prime);
    for (let power = 1; isPower[power] === 0; power = (power * 65537) % prime) isPower[power] = 1;
    return isPower;
  });

/**
 * The fingerprint of CVE-2017-15361, "ROCA" (Nemec et al., ACM CCS 2017, §3.2): modulo each of those primes the
 * modulus is a power of 65537. Of good keys one in 2^27 has it too.
 */
export const rsaRoca: KeyCheck = (key) => {
  if (key.family !== 'rsa') return undefined;
  const marked = powers.every((isPower, i) => isPower[key.residues[i] ?? 0] === 1);
  return marked ? 'the RSA key has the fingerprint of CVE-2017-15361 (ROCA)' : undefined;
};
