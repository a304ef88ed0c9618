import { Type } from 'typebox';
import { closed, count, duration, durationPattern } from './config-values.ts';

// What bounds a service, and how long ahead it says what will hurt.

export const Limits = Type.Object(
  {
    cards: count(1, 'cards in force for one holder'),
    phonesPerPlatform: count(1, 'phones in force for one holder on one platform'),
    challengeLife: duration('10min', 'life of an enrolment challenge'),
    phoneHandOverAfter: duration(
      '90d',
      'how long after its certificates ceased a phone may be enrolled by its next holder though no deletion was confirmed',
    ),
    clientBinding: duration(
      '365d',
      'how long a client stays bound to its roles, unless an administrator extends it',
    ),
    clientOverlap: duration('1d', 'how long a client certificate that was renewed may still be used'),
    idempotencyRetention: duration('7d', 'how long an answer can be replayed'),
    responderCertificatesPerDay: count(
      24,
      'responder certificates that one client gets in 24 hours for one authority and suite',
    ),
    requestBytesMax: count(65_536, 'octets of an API request'),
    requestTimeout: duration('10s', 'how long an API request may take to arrive'),
  },
  closed,
);

export const ClockLimits = Type.Object(
  {
    startStepMax: Type.Optional(
      Type.String({
        pattern: durationPattern,
        description:
          'how long after the last time on record a start may be before nothing is issued; default: however long',
      }),
    ),
  },
  closed,
);

export const Warnings = Type.Object(
  {
    authority: duration('365d', 'how long before its end a CA certificate is warned of'),
    authorityAge: duration(
      '180d',
      'how long before a CA is too old for certificates of full length a new generation is asked for',
    ),
    responder: duration('1d', 'the same of a responder certificate, which is renewed long before'),
    tls: duration('14d', 'the same of TLS certificates of services and nodes'),
    client: duration('14d', 'the same of client certificates'),
    binding: duration('30d', 'the same of bindings of clients to roles'),
    crlOctets: count(2_000_000, 'octets from which on a CRL is too long for its verifiers'),
  },
  closed,
);
