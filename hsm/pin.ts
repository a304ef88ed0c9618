import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PkiError } from '../core/errors.ts';

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
  if (source.from === 'environment') return process.env[source.name];
  const file =
    source.from === 'file'
      ? source.file
      : join(process.env.CREDENTIALS_DIRECTORY ?? '/run/credentials', source.name);
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new PkiError('token-unavailable', `the PIN cannot be read from ${describePlace(source)}`, {
      cause: error,
    });
  }
}

const describePlace = (source: PinSource): string =>
  source.from === 'file' ? source.file : `${source.from} ${source.name}`;
