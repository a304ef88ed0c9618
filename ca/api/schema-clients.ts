import { Type } from 'typebox';
import { AddClient, Client } from './schema.ts';
import { base64, closed } from './schema-values.ts';

// How clients are renewed and rebound.

const { roles, desks, authorities } = AddClient.properties;

export const Rebind = Type.Object(
  { roles: Type.Optional(roles), desks: Type.Optional(desks), authorities },
  { ...closed, description: 'what is named changes; without any, only the end of the binding moves' },
);

export const RenewalRequest = Type.Object(
  { request: base64('PKCS#10 of a new key: RSA-2048, P-256 or P-384', 8192) },
  closed,
);

export const RenewedClient = Type.Object({
  ...Client.properties,
  certificate: Type.String({ description: 'PEM' }),
});
