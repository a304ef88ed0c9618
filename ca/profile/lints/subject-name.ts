import { DerReader } from '../../../core/asn1/der-reader.ts';
import { tag } from '../../../core/asn1/der-writer.ts';
import type { Lint } from './lint.ts';

export const subjectName: Lint = {
  rule: 'subject is not empty, and its attributes are PrintableString or UTF8String (RFC 5280 §4.1.2.4, §4.1.2.6)',
  check: ({ tbs: { subject } }) => {
    const name = new DerReader(subject).enter(tag.sequence);
    if (name.atEnd) return 'subject';
    while (!name.atEnd) {
      const attribute = name.enter(tag.set).enter(tag.sequence);
      attribute.whole(tag.oid);
      const form = attribute.peek();
      if (form !== tag.printableString && form !== tag.utf8String) return 'subject';
    }
    return undefined;
  },
};
