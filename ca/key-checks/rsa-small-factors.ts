import type { KeyCheck } from './material.ts';
import { eachResidue } from './residues.ts';

/** No prime below 752 divides the modulus (NIST SP 800-89 §5.3.3; CA/Browser Forum BR §6.1.6). */
export const rsaSmallFactors: KeyCheck = (key) => {
  if (key.family !== 'rsa') return undefined;
  let factor: number | undefined;
  eachResidue(key.n, (prime, residue) => {
    if (residue === 0) factor = prime;
    return factor === undefined;
  });
  return factor === undefined ? undefined : `the RSA modulus is divisible by ${factor}`;
};
