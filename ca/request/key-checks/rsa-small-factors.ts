import type { KeyCheck } from './material.ts';
import { oddPrimes } from './residues.ts';

/** No prime below 752 divides the modulus (NIST SP 800-89 §5.3.3; CA/Browser Forum BR §6.1.6). */
export const rsaSmallFactors: KeyCheck = (key) => {
  if (key.family !== 'rsa') return undefined;
  const found = key.residues.indexOf(0);
  return found < 0 ? undefined : `the RSA modulus is divisible by ${oddPrimes[found]}`;
};
