import { type Static, Type } from 'typebox';
import { Municipalities } from './schema-desks.ts';
import { Authority, base64, closed, instant, nullable } from './schema-values.ts';

// Clients: how they are bound, shown, renewed and rebound.

export const roles = [
  'issuer',
  'revoker',
  'reader',
  'identity-reader',
  'administrator',
  'follower',
  'ocsp',
  'tsm',
  'verifier',
] as const;
export type Role = (typeof roles)[number];

export const Fingerprint = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the client certificate, hex',
});
export const AddClient = Type.Object(
  {
    fingerprint: Type.Optional(Fingerprint),
    request: Type.Optional(
      base64('instead of fingerprint: PKCS#10 of the client’s own key: RSA-2048, P-256 or P-384', 8192),
    ),
    name: Type.String({
      minLength: 1,
      maxLength: 100,
      description: 'of this client alone, for ever; characters that can be seen',
    }),
    kind: Type.Optional(
      Type.Enum(['person', 'system'], {
        description: 'who it is, whatever certificates it has; production wants it, by default a system',
      }),
    ),
    roles: Type.Array(Type.Enum(roles), {
      minItems: 1,
      uniqueItems: true,
    }),
    desks: Type.Array(Type.String({ pattern: '^([0-9A-Z]{9}|\\*)$' }), {
      description: 'desks an issuer acts for; * is all',
      uniqueItems: true,
    }),
    municipalities: Type.Optional({
      ...Municipalities,
      description:
        'with the roles revoker and reader: on whose holders it acts, and about whose it reads; * is the nation; production wants it, by default *',
    }),
    authorities: Type.Optional(
      Type.Array(Type.Union([Type.Literal('*'), Authority]), {
        description:
          'with the role ocsp: whose responder certificates it gets; * is every authority, also those to come; default: those there are',
        minItems: 1,
        uniqueItems: true,
      }),
    ),
  },
  closed,
);
export const Client = Type.Object({
  fingerprint: Fingerprint,
  name: Type.String(),
  roles: Type.Array(Type.String()),
  desks: Type.Array(Type.String()),
  authorities: Type.Array(Type.String()),
  addedAt: instant('when it was registered'),
  revokedAt: nullable(instant('when it was shut out')),
  // Not in answers of earlier versions, which are replayed for some days.
  municipalities: Type.Optional(Type.Array(Type.String())),
  clientId: Type.Optional(
    Type.String({ description: 'who it is, as histories name it: fingerprint of its first certificate' }),
  ),
  kind: Type.Optional(Type.Enum(['person', 'system'])),
  certificateEndsAt: Type.Optional(nullable(instant('end of its certificate; null where it is not known'))),
  bindingEndsAt: Type.Optional(
    nullable(
      instant('end of the binding, which an administrator moves; null of one from before there were ends'),
    ),
  ),
  endsAt: Type.Optional(nullable(instant('end of a certificate that was renewed'))),
  renews: Type.Optional(
    nullable(Type.String({ description: 'fingerprint of the certificate under which it was asked for' })),
  ),
  renewedBy: Type.Optional(nullable(Type.String({ description: 'fingerprint of the certificate after' }))),
  lastUsedAt: Type.Optional(nullable(instant('when it last acted, to the minute'))),
  unconfirmedSince: Type.Optional(
    nullable(instant('since when it waits, bound at the console, to be confirmed by another administrator')),
  ),
});

export type AddClientBody = Static<typeof AddClient>;

export const Rebind = Type.Object(
  {
    roles: Type.Optional(AddClient.properties.roles),
    desks: Type.Optional(AddClient.properties.desks),
    authorities: AddClient.properties.authorities,
    municipalities: AddClient.properties.municipalities,
  },
  { ...closed, description: 'what is named changes; without any, only the end of the binding moves' },
);

export const AnotherCertificate = Type.Object(
  {
    request: base64('PKCS#10 of a new key: RSA-2048, P-256 or P-384', 8192),
    additional: Type.Optional(
      Type.Boolean({ description: 'one more certificate of the same client: the present one does not end' }),
    ),
  },
  closed,
);

export const CertifyClient = Type.Object(
  { request: base64('PKCS#10 of a new key: RSA-2048, P-256 or P-384', 8192) },
  closed,
);

export const CertifiedClient = Type.Object({
  ...Client.properties,
  certificate: Type.String({ description: 'PEM' }),
});

export const EnrolledClient = Type.Object({
  ...Client.properties,
  certificate: Type.Optional(Type.String({ description: 'PEM; of one that was enrolled by a request' })),
});
