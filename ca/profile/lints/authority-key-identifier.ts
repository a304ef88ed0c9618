import { DerReader } from '../../../core/asn1/der-reader.ts';
import { context, tag } from '../../../core/asn1/der-writer.ts';
import { equal } from '../../../core/runtime/bytes.ts';
import type { Lint } from './lint.ts';

export const authorityKeyIdentifier: Lint = {
  rule: 'authorityKeyIdentifier names the key that signs (RFC 5280 §4.2.1.1)',
  check: ({ extension, issuer: { reference } }) => {
    if (!reference) return undefined;
    const found = extension('authorityKeyIdentifier');
    if (!found) return 'authorityKeyIdentifier';
    const named = new DerReader(found).enter(tag.sequence).content(context(0, 'primitive'));
    return equal(named, reference.subjectKeyIdentifier) ? undefined : 'authorityKeyIdentifier';
  },
};
