import { holderKinds } from '../../../core/model/kinds.ts';
import type { Lint } from './lint.ts';

const dayMs = 86_400_000;
/** 23:59:59 in Japan. */
const lastSecondMs = ((14 * 60 + 59) * 60 + 59) * 1000;

export const endOfDay: Lint = {
  rule: 'a holder’s certificate ends with a day in Japan (scheme profile: notAfter at 14:59:59Z)',
  check: ({ tbs: { notAfterMs }, profile: { kind } }) =>
    (holderKinds as readonly string[]).includes(kind) && notAfterMs % dayMs !== lastSecondMs
      ? 'notAfter'
      : undefined,
};
