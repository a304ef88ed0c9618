import { Type } from 'typebox';
import { closed, count, duration } from '../../core/config/values.ts';

/** Revocation filters for verifiers that check without asking. */
export const Filters = Type.Object(
  {
    use: Type.Enum(['on', 'off'], {
      default: 'off',
      description:
        'on: a filter of each CA is published next to the CRLs, for verifiers of the register alone',
    }),
    every: duration('1h', 'how often a filter, or what has changed since, is issued'),
    baseEvery: duration('24h', 'age at which a whole filter is issued; before, deltas'),
    believeFor: duration('3h', 'how long what a file says may be believed'),
    threads: count(2, 'threads that build one'),
  },
  closed,
);
