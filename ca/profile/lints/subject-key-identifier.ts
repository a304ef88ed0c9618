import { subjectPublicKeyBits } from '../../../core/asn1/algorithms.ts';
import { octetString } from '../../../core/asn1/der-writer.ts';
import { keyIdentifier } from '../../../core/asn1/extension.ts';
import { equal } from '../../../core/runtime/bytes.ts';
import type { Lint } from './lint.ts';

export const subjectKeyIdentifier: Lint = {
  rule: 'subjectKeyIdentifier is the SHA-1 of the key that is certified (RFC 5280 §4.2.1.2, method 1)',
  check: ({ extension, tbs: { publicKey } }) => {
    const found = extension('subjectKeyIdentifier');
    const wanted = octetString(keyIdentifier(subjectPublicKeyBits(publicKey)));
    return found && equal(found, wanted) ? undefined : 'subjectKeyIdentifier';
  },
};
