import { Type } from 'typebox';
import { closed, count, duration, durationOrNone } from '../../core/config/values.ts';

/** What looking holders up asks for, and leaves. */
export const Reading = Type.Object(
  {
    purposes: Type.Array(Type.String({ pattern: '^[a-z][a-z0-9-]{0,31}$' }), {
      default: [
        'counter-service',
        'inquiry-of-holder',
        'loss-report',
        'renewal',
        'incident',
        'investigation',
        'audit',
        'operation',
      ],
      minItems: 1,
      uniqueItems: true,
      description: 'for which holders may be looked up; a caller names one (header Warifu-Purpose)',
    }),
    use: Type.Enum(['in-production', 'required'], {
      default: 'in-production',
      description: 'when a look-up has to name its purpose, and its number is limited',
    }),
    perDay: Type.Object(
      {
        person: count(500, 'look-ups of one person in a day in Japan'),
        system: count(100_000, 'the same of a system'),
      },
      { ...closed, description: 'beyond them look-ups are refused (429)' },
    ),
    kept: duration('1826d', 'how long it is known who looked whom up'),
    queries: durationOrNone(
      '0',
      'how long what verifiers report to have asked is kept, sealed for the holder alone; 90d where it is to be shown; 0: not at all',
    ),
  },
  closed,
);
