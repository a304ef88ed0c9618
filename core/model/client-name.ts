import { PkiError } from '../runtime/errors.ts';

// Names of clients, as people read them in lists, logs and approvals: two that look the same would be one to those who decide.

/** Whether a client is one person, whatever certificates that person has, or a system. */
export const clientKinds = ['person', 'system'] as const;
export type ClientKind = (typeof clientKinds)[number];

const lengthMax = 100;

/** Control and formatting characters (also those that turn the direction of text), lone surrogates, private use, unassigned. */
const invisible = /[\p{C}\p{Zl}\p{Zp}]/u;

/** Refuses with `bad-request` a name that cannot be read, or that is longer than 100 characters. */
export function checkClientName(name: string): void {
  if (name.trim() !== name || name === '' || [...name].length > lengthMax || invisible.test(name))
    throw new PkiError(
      'bad-request',
      `name: is of 1 to ${lengthMax} characters that can be seen, and no space at its ends`,
    );
}

/** What two names have in common that cannot be told apart by case, width or spaces (NFKC, Unicode UAX #15). */
export const foldedName = (name: string): string =>
  name.normalize('NFKC').toLowerCase().normalize('NFKC').replace(/\s+/gu, ' ').trim();
