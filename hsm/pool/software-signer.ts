import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import type { Suite } from '../../core/asn1/algorithms.ts';
import type { Signer, SigningPurpose } from '../../core/crypto/signer.ts';

/** A signer over a key in memory: for tests, and for what is by design no token key, such as a TLS leaf. */
export function softwareSigner<Purpose extends SigningPurpose>(options: {
  purpose: Purpose;
  suite: Suite;
  privateKey: KeyObject;
}): Signer<Purpose> {
  const { purpose, suite, privateKey } = options;
  return {
    purpose,
    suite,
    publicKey: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
    sign: async (message, signal) => {
      signal?.throwIfAborted();
      return sign(suite.hash, message, privateKey);
    },
  };
}
