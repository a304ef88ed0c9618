import { type TSchema, Type } from 'typebox';

// What the API's shapes are made of.

export const closed = { additionalProperties: false } as const;
export const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

export const identifier = (description: string) =>
  Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description });
export const base64 = (description: string, maxLength: number) =>
  Type.String({ pattern: '^[A-Za-z0-9+/]+={0,2}$', maxLength, contentEncoding: 'base64', description });
export const day = (description: string) =>
  Type.String({ pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}$', description });
export const instant = (description: string) => Type.String({ format: 'date-time', description });

export const Reason = Type.Enum(
  ['unspecified', 'keyCompromise', 'affiliationChanged', 'superseded', 'cessationOfOperation'],
  { description: 'CRLReason (RFC 5280 §5.3.1)' },
);

export const Authority = Type.String({
  pattern: '^(signing|authentication)-[1-9][0-9]{0,3}$',
  description: 'CA and generation',
});
export const SerialNumber = Type.String({
  pattern: '^([0-9a-f]{2}){1,20}$',
  description: 'serial number, hex octets in small letters; leading zeros change nothing',
});
export const Reference = Type.Object({ authority: Authority, serialNumber: SerialNumber });
export const Kind = Type.Enum([
  'card-signing',
  'card-authentication',
  'phone-signing',
  'phone-authentication',
  'authority',
  'authority-link',
  'ocsp-responder',
]);
