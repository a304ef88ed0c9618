import { Type } from 'typebox';
import { closed, count, duration } from '../../core/config/values.ts';

/** Backups that the service makes by itself. */
export const Backups = Type.Object(
  {
    folder: Type.Optional(
      Type.String({
        minLength: 1,
        description:
          'where they go, relative to the data folder, best on another disk; without it none are made',
      }),
    ),
    every: duration('24h', 'how often'),
    recipients: Type.Array(Type.String({ pattern: '^age1[02-9ac-hj-np-z]{58}$' }), {
      default: [],
      description:
        'public keys of age (age-encryption.org) that backups are encrypted for; the private keys are kept away from this machine',
    }),
    keepNumber: count(7, 'how many are kept at least, whatever their age'),
    keepAge: duration('30d', 'how long each is kept at least'),
  },
  closed,
);
