import { suiteOfKey } from '../../../core/asn1/algorithms.ts';
import { holderKinds } from '../../../core/model/kinds.ts';
import type { Lint } from './lint.ts';

export const keyType: Lint = {
  rule: 'a holder’s key is of the suite that its CA signs with (scheme profile)',
  check: ({ tbs: { publicKey }, issuer, profile: { kind } }) =>
    (holderKinds as readonly string[]).includes(kind) && suiteOfKey(publicKey) !== issuer.suite
      ? 'subjectPublicKeyInfo'
      : undefined,
};
