import { equal } from '../../../core/runtime/bytes.ts';
import type { Lint } from './lint.ts';

export const issuerName: Lint = {
  rule: 'issuer is the CA’s subject, octet for octet (RFC 5280 §4.1.2.4)',
  check: ({ tbs, issuer }) => (equal(tbs.issuer, issuer.issuer) ? undefined : 'issuer'),
};
