import { DerReader } from '../../../core/asn1/der-reader.ts';
import { context, objectIdentifier, tag } from '../../../core/asn1/der-writer.ts';
import { view } from '../../../core/runtime/bytes.ts';
import type { Lint } from './lint.ts';

/** Name, birth date, sex, address, and the flags of name and address. */
const order = [1, 4, 3, 5, 2, 6].map((field) => objectIdentifier(`1.2.392.200149.8.5.5.${field}`));

export const basicFour: Lint = {
  rule: 'a signing certificate speaks of the basic four, in the scheme’s order and nothing else (scheme profile)',
  check: ({ extension, profile: { kind } }) => {
    if (!kind.endsWith('-signing')) return undefined;
    const found = extension('subjectAltName');
    if (!found) return 'subjectAltName';
    const names = new DerReader(found).enter(tag.sequence);
    const inOrder = order.every(
      (id) => !names.atEnd && view(names.enter(context(0)).whole(tag.oid)).equals(id),
    );
    return inOrder && names.atEnd ? undefined : 'subjectAltName';
  },
};
