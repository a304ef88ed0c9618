import { type Static, Type } from 'typebox';
import { closed, count, duration, port, text } from './values.ts';

// Options that several services have, each with its default and what it means.

/** Where a service listens. */
export const Listen = (ports: number, what: string) =>
  Type.Object(
    { host: text('127.0.0.1', `address ${what} listens on`), port: port(ports, `port of ${what}`) },
    closed,
  );

/** Where metrics are served. */
export const Metrics = Type.Optional(
  Type.Object(
    {
      host: Type.String({ description: 'address that Prometheus asks', minLength: 1 }),
      port: Type.Integer({ description: 'port of /metrics', minimum: 1, maximum: 65535 }),
    },
    { additionalProperties: false, description: 'where metrics are served; default: nowhere' },
  ),
);

/** How long ahead a service says what will hurt. */
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

export type Warnings = Static<typeof Warnings>;

export const Mode = Type.Enum(['development', 'production'], {
  default: 'development',
  description:
    'development: one person tries it out, with every right; production: persons of their own rights, and a start that refuses what is not safe. A data folder stays what its ceremony made it',
});
