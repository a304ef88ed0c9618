import { DerReader } from '../../core/der-reader.ts';
import { context, tag } from '../../core/der-writer.ts';
import type { Lint } from './lint.ts';

export const distributionPoint: Lint = {
  rule: 'one distribution point, of a directoryName and an http address (RFC 5280 §4.2.1.13, scheme profile)',
  check: ({ extension }) => {
    const found = extension('cRLDistributionPoints');
    if (!found) return undefined;
    const points = new DerReader(found).enter(tag.sequence);
    const names = points.enter(tag.sequence).enter(context(0)).enter(context(0));
    names.whole(context(4));
    const address = names.content(context(6, 'primitive'));
    const isHttp = Buffer.from(address.buffer, address.byteOffset, 7).equals(http);
    return points.atEnd && names.atEnd && isHttp ? undefined : 'cRLDistributionPoints';
  },
};

const http = Buffer.from('http://');
