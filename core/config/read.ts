import { readFileSync } from 'node:fs';
import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { PkiError } from '../runtime/errors.ts';
import { parseStrictJson } from '../runtime/strict-json.ts';
import { faultsOf } from './faults.ts';

/** Checks a configuration and fills in its defaults. Throws `bad-request`, naming every wrong key. */
export function completed<T extends TSchema>(schema: T, input: unknown): Static<T> {
  return checked(schema, Value.Default(schema, structuredClone(input)));
}

/** Checks a configuration that has its defaults. Throws `bad-request`, naming every wrong key. */
export function checked<T extends TSchema>(schema: T, config: unknown): Static<T> {
  if (Value.Check(schema, config)) return config;
  throw new PkiError('bad-request', `configuration: ${faultsOf(schema, config).join('\n  ')}`);
}

/** Refuses a configuration. */
export function fail(what: string): never {
  throw new PkiError('bad-request', `configuration: ${what}`);
}

/** Refuses a configuration by all that any of these refuses, each on a line. */
export function checkAll(checks: readonly (() => void)[]): void {
  const faults = checks.flatMap((check) => {
    try {
      check();
      return [];
    } catch (error) {
      if (!(error instanceof PkiError)) throw error;
      return [error.message.replace(/^configuration: /, '')];
    }
  });
  if (faults.length > 0) fail(faults.join('\n  '));
}

/** What stands in every certificate: a host that DNS can have, and a port that there can be. */
export function isPublicAddress(address: string): boolean {
  const [, host = '', port = '80'] = /^http:\/\/([A-Za-z0-9.-]+)(?::(\d{1,5}))?$/.exec(address) ?? [];
  return isHostName(host) && Number(port) >= 1 && Number(port) <= 65_535;
}

export const isHostName = (name: string): boolean =>
  name.length <= 253 &&
  name.split('.').every((label) => /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label));

/** What `parse` makes of a file of JSON; its errors name the file. */
export const readJson = <T>(file: string, parse: (input: unknown) => T): T =>
  namingFile(file, () => parse(jsonOf(file)));

/** Has an error say which file it is about. */
export function namingFile<T>(file: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const { message } = error as Error;
    if (!(error instanceof PkiError) || message.includes(file)) throw error;
    throw new PkiError(error.code, `${message} (${file})`, {
      cause: error,
    });
  }
}

/** The value in a file of JSON. Throws `bad-request`, naming the file. */
export function jsonOf(file: string): unknown {
  try {
    const octets = readFileSync(file);
    // Says where it is no JSON; then, whether it says something twice.
    JSON.parse(octets.toString('utf8'));
    const value = parseStrictJson(octets);
    return withoutSchema(value);
  } catch (error) {
    throw new PkiError('bad-request', `configuration: ${file}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** Removes `$schema` from a configuration: it names the JSON Schema for editors, and configures nothing. */
function withoutSchema(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const { $schema: _, ...rest } = value as Record<string, unknown>;
  return rest;
}
