import { type Static, Type } from 'typebox';
import { slots } from '../../core/model/kinds.ts';
import { credentialTypes, type VerifierType, verifierTypes } from '../../core/model/verifier.ts';
import { closed, identifier, instant, nullable } from './schema-values.ts';

// Verifiers, as administrators record them.

export const VerifierId = identifier('the verifier, as the register has it');

const types = Object.keys(verifierTypes) as VerifierType[];
const sha256 = (what: string) =>
  Type.String({ pattern: '^[0-9a-f]{64}$', description: `SHA-256 of ${what}, hex` });
const term = {
  validFrom: Type.Optional(Type.String({ format: 'date-time', description: 'RFC 3339; default: now' })),
  validTo: Type.Optional(Type.String({ format: 'date-time', description: 'RFC 3339; default: for ever' })),
};
const limit = (what: string) => Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: what });

/** What a new credential is, by its type. */
export const NewCredential = Type.Union([
  Type.Object(
    {
      type: Type.Literal('token'),
      sha256: sha256(
        'the token that its requests have in their path, below /v/; of 128 random bits at least',
      ),
      ...term,
    },
    closed,
  ),
  Type.Object(
    { type: Type.Literal('certificate'), sha256: sha256('its TLS certificate, DER'), ...term },
    closed,
  ),
  Type.Object(
    {
      type: Type.Literal('port'),
      port: Type.Integer({
        minimum: 1,
        maximum: 65535,
        description: 'of OCSP nodes, for this verifier alone',
      }),
      ...term,
    },
    closed,
  ),
  Type.Object(
    {
      type: Type.Literal('client'),
      client: Type.String({ minLength: 1, maxLength: 100, description: 'name of its client of this API' }),
      ...term,
    },
    closed,
  ),
]);
export type NewCredentialBody = Static<typeof NewCredential>;

const facts = {
  name: Type.String({ minLength: 1, maxLength: 100, description: 'as holders know it' }),
  type: Type.Enum(types, {
    description: types.map((type) => `${type}: ${verifierTypes[type]}`).join('; '),
  }),
  kinds: Type.Array(Type.Enum([...slots]), {
    minItems: 1,
    uniqueItems: true,
    description: 'of which certificates it may ask',
  }),
  purposes: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), {
    maxItems: 20,
    uniqueItems: true,
    description: 'for which it was notified, as holders read them',
  }),
};

export const RecordVerifier = Type.Object(
  {
    ...facts,
    platformId: Type.Optional({
      ...VerifierId,
      description: 'of a service provider: the platform that asks for it',
    }),
    url: Type.Optional(
      Type.String({
        pattern: '^https?://[^\\s]{1,500}$',
        description: 'where its notices go, https beyond this machine; default: it fetches them',
      }),
    ),
    requestsPerSecond: Type.Optional(
      limit('requests that each OCSP or CRL node answers in a second; default: all'),
    ),
    questionsPerDay: Type.Optional(
      limit('questions about holders in a day; default: verifiers.questionsPerDay'),
    ),
    watchesMax: Type.Optional(limit('certificates that it may watch; default: verifiers.watchesMax')),
    ...term,
  },
  closed,
);
export type RecordVerifierBody = Static<typeof RecordVerifier>;

export const NewVerifier = Type.Object(
  {
    ...RecordVerifier.properties,
    credentials: Type.Optional(
      Type.Array(NewCredential, { maxItems: 16, description: 'by what it is known; more can be added' }),
    ),
  },
  closed,
);
export type NewVerifierBody = Static<typeof NewVerifier>;

const Credential = Type.Object({
  credentialId: Type.String(),
  type: Type.Enum([...credentialTypes]),
  value: Type.String({ description: 'SHA-256 of token or certificate, port, or folded name of the client' }),
  validFrom: instant('from when on it is known by it'),
  validTo: nullable(instant('until when')),
});

export const Verifier = Type.Object({
  verifierId: Type.String(),
  ...facts,
  platformId: nullable(Type.String()),
  url: nullable(Type.String()),
  requestsPerSecond: nullable(Type.Integer()),
  questionsPerDay: nullable(Type.Integer()),
  watchesMax: nullable(Type.Integer()),
  validFrom: instant('from when on it may ask'),
  validTo: nullable(instant('until when')),
  suspendedAt: nullable(instant('since when it may ask nothing')),
  platformSuspendedAt: nullable(instant('since when its platform may ask nothing')),
  changedAt: instant('when it was last changed'),
  credentials: Type.Array(Credential),
});
