import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { readSecret } from '../runtime/secret-file.ts';
import type { VerifierTls } from './verifier-options.ts';

// How a service that answers verifiers knows them. Who they are is on the CA's register.

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
