import type { Lint } from './lint.ts';

export const serialNumber: Lint = {
  rule: 'serial number is positive and of at most 20 octets (RFC 5280 §4.1.2.2)',
  check: ({ tbs: { serial } }) => (serial.length > 20 || (serial[0] ?? 0) === 0 ? 'serialNumber' : undefined),
};
