import { equal } from '../../../core/runtime/bytes.ts';
import type { KeyCheck } from './material.ts';

const f4 = Uint8Array.of(1, 0, 1);

/** e = 65537: the scheme's profile, and beyond the reach of attacks on small exponents (FIPS 186-5 §5.4 (e)). */
export const rsaExponent: KeyCheck = (key) =>
  key.family === 'rsa' && !equal(key.exponent, f4) ? 'the RSA public exponent is not 65537' : undefined;
