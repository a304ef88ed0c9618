import { Type } from 'typebox';
import { closed, count } from '../../core/config/values.ts';

/** What bounds verifiers whose own entry on the register says nothing else. */
export const VerifierLimits = Type.Object(
  {
    questionsPerDay: count(10_000, 'questions about holders of one verifier in a day in Japan'),
    watchesMax: count(10_000_000, 'certificates that one verifier may watch at a time'),
  },
  closed,
);
