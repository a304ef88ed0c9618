import { DerReader } from '../../../core/asn1/der-reader.ts';
import { context, tag } from '../../../core/asn1/der-writer.ts';
import { nameLengthMax, namesIn } from '../../../core/asn1/name.ts';
import type { Bytes } from '../../../core/runtime/bytes.ts';
import type { Lint } from './lint.ts';

/** Names DER of the directoryNames among GeneralNames. */
function directoryNames(generalNames: DerReader): Bytes[] {
  const found: Bytes[] = [];
  while (!generalNames.atEnd) {
    if (generalNames.peek() === context(4)) found.push(generalNames.enter(context(4)).whole(tag.sequence));
    else generalNames.whole();
  }
  return found;
}

export const nameLengths: Lint = {
  rule: 'no attribute of a name is longer than its upper bound (RFC 5280 appendix A.1)',
  check: ({ tbs: { subject, issuer }, extension }) => {
    const names = [subject, issuer];
    for (const id of ['subjectAltName', 'issuerAltName'] as const) {
      const value = extension(id);
      if (value) names.push(...directoryNames(new DerReader(value).enter(tag.sequence)));
    }
    const points = extension('cRLDistributionPoints');
    if (points) {
      const point = new DerReader(points).enter(tag.sequence).enter(tag.sequence);
      names.push(...directoryNames(point.enter(context(0)).enter(context(0))));
    }
    for (const { type, value } of names.flatMap(namesIn)) {
      // A character is one code unit or two.
      if (value.length > nameLengthMax[type] && [...value].length > nameLengthMax[type])
        return `${type} of ${[...value].length} characters`;
    }
    return undefined;
  },
};
