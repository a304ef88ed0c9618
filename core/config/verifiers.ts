import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { type Static, type TSchema, Type } from 'typebox';
import { frontSays } from '../http/verifier-register.ts';
import { readSecret } from '../runtime/secret-file.ts';

// How a service that answers verifiers knows them. Who they are is on the CA's register.

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

/** What verifiers are shown over TLS, PEM; null where no one is. */
export type ShownTls = { readonly key: string; readonly cert: string; readonly ca: string } | null;

/** Reads what verifiers are shown, as the files have it now. Throws where key and certificate do not belong together. */
export function shownTls(tls: VerifierTls | undefined, folder: string): ShownTls {
  if (!tls) return null;
  const read = (file: string): string => readFileSync(resolve(folder, file), 'utf8');
  const shown = { key: readSecret(resolve(folder, tls.key)), cert: read(tls.cert), ca: read(tls.ca) };
  // Throws here, and not in a thread.
  createSecureContext(shown);
  return shown;
}

/** Files with the TLS that verifiers are shown. */
export const tlsFilesOf = ({ tls }: { readonly tls?: VerifierTls | undefined }): string[] =>
  tls ? [tls.key, tls.cert, tls.ca] : [];

/** The part of a service's options that each request goes by. */
export const verifierRules = ({
  required,
  tokensOver,
}: {
  readonly required: boolean;
  readonly tokensOver: 'any' | 'tls' | 'proxy';
}) => ({ required, tokensOver });
