import { equal } from '../../../core/runtime/bytes.ts';
import type { Lint } from './lint.ts';

export const signatureField: Lint = {
  rule: 'signature field names the issuer’s algorithm (RFC 5280 §4.1.2.3)',
  check: ({ tbs, issuer }) =>
    equal(tbs.signatureField, issuer.suite.algorithmIdentifier) ? undefined : 'signature',
};
