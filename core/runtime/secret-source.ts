import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type ErrorCode, PkiError } from './errors.ts';
import { readSecret } from './secret-file.ts';

/** Where a secret is to be found: a file, a variable of the environment, or a credential of systemd (LoadCredential=). */
export type SecretSource =
  | { readonly from: 'file'; readonly file: string }
  | { readonly from: 'environment'; readonly name: string }
  | { readonly from: 'credential'; readonly name: string };

/** A file relative to a folder, unless a variable or a credential is named. */
export function secretSource(
  named: {
    readonly file: string;
    readonly environment?: string | undefined;
    readonly credential?: string | undefined;
  },
  folder: string,
): SecretSource {
  if (named.environment !== undefined) return { from: 'environment', name: named.environment };
  if (named.credential !== undefined) return { from: 'credential', name: named.credential };
  return { from: 'file', file: resolve(folder, named.file) };
}

/** Reads a secret: one line, nothing else. Throws an error of this code, which names the place and never the secret. */
export function readSecretLine(
  source: SecretSource,
  { what, code }: { readonly what: string; readonly code: ErrorCode },
): string {
  const line = textOf(source, { what, code })?.trim() ?? '';
  if (line === '') throw new PkiError(code, `there is no ${what} in ${describePlace(source)}`);
  return line;
}

function textOf(
  source: SecretSource,
  { what, code }: { readonly what: string; readonly code: ErrorCode },
): string | undefined {
  if (source.from === 'environment') return takeVariable(source.name);
  const file =
    source.from === 'file'
      ? source.file
      : join(process.env.CREDENTIALS_DIRECTORY ?? '/run/credentials', source.name);
  try {
    // systemd gives credentials the mode it likes, in a folder that only the service can enter.
    return source.from === 'file' ? readSecret(file) : readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof PkiError) throw error;
    throw new PkiError(code, `the ${what} cannot be read from ${describePlace(source)}`, { cause: error });
  }
}

/** Secrets from the environment, by the name of their variable: taken out of it, so that no other process inherits them. */
const taken = new Map<string, string>();

function takeVariable(name: string): string | undefined {
  const value = process.env[name];
  if (value !== undefined) taken.set(name, value);
  delete process.env[name];
  return taken.get(name);
}

/** Secrets that a process of ours needs and does not inherit: handed over by a pipe, by the name of their variable. */
export function variablesOf(sources: readonly SecretSource[]): Record<string, string> {
  const names = sources.flatMap((source) => (source.from === 'environment' ? [source.name] : []));
  return Object.fromEntries(
    names.flatMap((name) => (takeVariable(name) === undefined ? [] : [[name, takeVariable(name) ?? '']])),
  );
}

/** The other side of `variablesOf`: reads the pipe to its end. */
export function takeVariables(descriptor: number): void {
  const given = JSON.parse(readFileSync(descriptor, 'utf8')) as Record<string, string>;
  for (const [name, value] of Object.entries(given)) taken.set(name, value);
}

const describePlace = (source: SecretSource): string =>
  source.from === 'file' ? source.file : `${source.from} ${source.name}`;
