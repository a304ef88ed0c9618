import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSecret } from '../../core/runtime/secret-file.ts';

/** Where a PIN is to be found: a file, a variable of the environment, or a credential of systemd (LoadCredential=). */
export type PinSource =
  | { readonly from: 'file'; readonly file: string }
  | { readonly from: 'environment'; readonly name: string }
  | { readonly from: 'credential'; readonly name: string };

/** What a token's configuration says of its PIN. */
export interface PinConfig {
  readonly pinFile: string;
  readonly pinEnvironment?: string | undefined;
  readonly pinCredential?: string | undefined;
}

export function pinSource(config: PinConfig, folder: string): PinSource {
  if (config.pinEnvironment !== undefined) return { from: 'environment', name: config.pinEnvironment };
  if (config.pinCredential !== undefined) return { from: 'credential', name: config.pinCredential };
  return { from: 'file', file: resolve(folder, config.pinFile) };
}

/** Reads a PIN: one line, nothing else. Throws `token-unavailable`, naming the place and never the PIN. */
export function readPin(source: PinSource): string {
  const pin = textOf(source)?.trim() ?? '';
  if (pin === '') throw new PkiError('token-unavailable', `there is no PIN in ${describePlace(source)}`);
  return pin;
}

function textOf(source: PinSource): string | undefined {
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
    throw new PkiError('token-unavailable', `the PIN cannot be read from ${describePlace(source)}`, {
      cause: error,
    });
  }
}

/** PINs from the environment, by the name of their variable: taken out of it, so that no other process inherits them. */
const taken = new Map<string, string>();

function takeVariable(name: string): string | undefined {
  const value = process.env[name];
  if (value !== undefined) taken.set(name, value);
  delete process.env[name];
  return taken.get(name);
}

/** PINs that a process of ours needs and does not inherit: handed over by a pipe, by the name of their variable. */
export function variablesOf(sources: readonly PinSource[]): Record<string, string> {
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

const describePlace = (source: PinSource): string =>
  source.from === 'file' ? source.file : `${source.from} ${source.name}`;
