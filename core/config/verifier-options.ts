import { type Static, type TSchema, Type } from 'typebox';
import { frontSays } from '../http/verifier-register.ts';

// Apart from `verifiers.ts`, which threads load that need no schemas.

/** Where verifiers reach a service over TLS. */
const VerifierTls = Type.Object(
  {
    port: Type.Integer({ description: 'port for verifiers over TLS', minimum: 1, maximum: 65535 }),
    key: Type.String({ description: 'file with the server’s key, relative to the data folder' }),
    cert: Type.String({ description: 'file with the server’s certificate' }),
    ca: Type.String({ description: 'file with the CA of verifiers’ certificates' }),
  },
  { additionalProperties: false },
);
export type VerifierTls = Static<typeof VerifierTls>;

/** `listed`: an entry of the lists that an earlier version had in its configuration. */
export const verifierOptions = <Listed extends TSchema>(listed: Listed) => ({
  required: Type.Boolean({
    default: false,
    description: 'refuse those that are not on the register of verifiers, with 403',
  }),
  tokensOver: Type.Enum(['any', 'tls', 'proxy'], {
    default: 'any',
    description:
      'over what a verifier’s token may come: tls: over TLS to this service alone; proxy: a server in front of it speaks TLS; any: in the clear, too',
  }),
  fromFront: Type.Array(Type.Enum([...frontSays]), {
    default: [],
    uniqueItems: true,
    description:
      'what a server in front says of requests when it asks /authorize: the client’s certificate, and the port; it has to overwrite those headers',
  }),
  list: Type.Array(listed, {
    default: [],
    description:
      'verifiers of an earlier version: taken over onto the register by the first start, and read no more (POST /v1/verifiers)',
  }),
  tls: Type.Optional(VerifierTls),
});
