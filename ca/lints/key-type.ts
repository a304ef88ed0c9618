import { suiteOfKey } from '../../core/algorithms.ts';
import { holderKinds } from '../../core/kinds.ts';
import type { Lint } from './lint.ts';

export const keyType: Lint = {
  rule: 'a holder’s key is of the suite that its CA signs with (scheme profile)',
  check: ({ tbs: { publicKey }, issuer, profile: { kind } }) =>
    (holderKinds as readonly string[]).includes(kind) && suiteOfKey(publicKey) !== issuer.suite
      ? 'subjectPublicKeyInfo'
      : undefined,
};
