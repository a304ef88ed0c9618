import { Type } from 'typebox';
import { closed, count } from '../../core/config/values.ts';

/** What bounds verifiers whose own entry on the register says nothing else. */
export const VerifierLimits = Type.Object(
  {
    questionsPerDay: count(10_000, 'questions about holders of one verifier in a day in Japan'),
    consentYears: count(10, 'years that a consent to the latest basic four lasts, from the next day on'),
    consentSignedBy: Type.Array(Type.Enum(['card-signing', 'phone-signing']), {
      default: ['card-signing', 'phone-signing'],
      minItems: 1,
      uniqueItems: true,
      description: 'whose signing key may sign a consent',
    }),
    usesPerHolder: count(50, 'uses of one holder’s certificates that one verifier may report in a day'),
    inVain: count(
      100,
      'questions of one verifier in a day that are answered with nothing, from which on it is an alarm',
    ),
    intakeSample: count(
      300,
      'certificates of an intake whose signatures are shown: of a list of which one in a hundred is wrong, 300 let 5 % pass',
    ),
    watchesMax: count(10_000_000, 'certificates that one verifier may watch at a time'),
  },
  closed,
);
