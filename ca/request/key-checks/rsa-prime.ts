import { checkPrimeSync } from 'node:crypto';
import type { KeyCheck } from './material.ts';

/**
 * The modulus is composite (NIST SP 800-89 §5.3.3): of a prime modulus the public key gives the private one away. One
 * Miller–Rabin round decides: it calls no prime composite, and a composite next to never prime. It takes 2 ms, which is more
 * than everything else that is done for a certificate.
 */
export const rsaPrime: KeyCheck = (key) =>
  key.family === 'rsa' && checkPrimeSync(key.n, { checks: 1 })
    ? 'the modulus of the RSA key is a prime (NIST SP 800-89 §5.3.3)'
    : undefined;
