import type { KeyCheck } from './material.ts';

/** The modulus is of exactly the suite's length, and odd (FIPS 186-5 §5.1; CA/Browser Forum BR §6.1.5, §6.1.6). */
export const rsaSize: KeyCheck = (key) => {
  if (key.family !== 'rsa') return undefined;
  const { modulus, modulusBits } = key;
  if (modulus.length !== modulusBits / 8 || (modulus[0] ?? 0) < 0x80)
    return `the RSA modulus is not of ${modulusBits} bits`;
  return ((modulus.at(-1) ?? 0) & 1) === 0 ? 'the RSA modulus is even' : undefined;
};
