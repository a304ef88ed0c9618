import { Type } from 'typebox';
import { closed, count, duration, durationPattern } from '../../core/config/values.ts';

/** What bounds the service. */
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
    clientCertificate: duration('90d', 'life of a client certificate'),
    clientOverlap: duration('1d', 'how long a client certificate that was renewed may still be used'),
    idempotencyRetention: duration('7d', 'how long an answer can be replayed'),
    responderCertificatesPerDay: count(
      24,
      'responder certificates that one client gets in 24 hours for one authority and suite',
    ),
    connections: Type.Object(
      {
        all: count(4000, 'connections of clients to the API'),
        handshakes: count(
          256,
          'further connections, which have shown no certificate yet: the oldest makes room',
        ),
        perAddress: count(500, 'connections from one address'),
        newPerSecond: count(50, 'new connections a second from one address'),
        newAtOnce: count(128, 'those that may come at once'),
      },
      closed,
    ),
    requestsPerSecond: count(1000, 'requests of one client a second, what takes trust away aside'),
    atOnce: Type.Object(
      {
        client: count(32, 'requests of one client that are worked on at once, while no other asks'),
        all: count(16, 'those of all clients, where several ask'),
      },
      closed,
    ),
    scansAtOnce: Type.Object(
      {
        client: count(1, 'requests of one client that read much of the record, at once'),
        all: count(2, 'those of all clients'),
      },
      closed,
    ),
    waiting: Type.Object(
      {
        client: count(256, 'requests of one client that wait for their turn'),
        all: count(4096, 'those of all clients'),
      },
      closed,
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
