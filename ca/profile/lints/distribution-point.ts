import { DerReader } from '../../../core/asn1/der-reader.ts';
import { context, tag } from '../../../core/asn1/der-writer.ts';
import type { Lint } from './lint.ts';

const http = Buffer.from('http://');
const addressTag = context(6, 'primitive');

export const distributionPoint: Lint = {
  rule: 'one distribution point, of a directoryName and at most one http address (RFC 5280 §4.2.1.13, scheme profile)',
  check: ({ extension }) => {
    const found = extension('cRLDistributionPoints');
    if (!found) return undefined;
    const points = new DerReader(found).enter(tag.sequence);
    const names = points.enter(tag.sequence).enter(context(0)).enter(context(0));
    const addresses: Uint8Array[] = [];
    let directories = 0;
    while (!names.atEnd) {
      if (names.peek() === addressTag) addresses.push(names.content(addressTag));
      else {
        names.whole(context(4));
        directories += 1;
      }
    }
    const areHttp = addresses.every((address) => http.equals(address.subarray(0, http.length)));
    return points.atEnd && directories === 1 && addresses.length <= 1 && areHttp
      ? undefined
      : 'cRLDistributionPoints';
  },
};
