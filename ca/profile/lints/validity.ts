import type { Lint } from './lint.ts';

export const validity: Lint = {
  rule: 'notBefore comes before notAfter (RFC 5280 §4.1.2.5)',
  check: ({ tbs: { notBeforeMs, notAfterMs } }) => (notBeforeMs < notAfterMs ? undefined : 'validity'),
};
