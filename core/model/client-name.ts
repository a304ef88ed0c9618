import { PkiError } from '../runtime/errors.ts';

// Names of clients, as people read them in lists, logs and approvals: two that look the same would be one to those who decide.

/** Whether a client is one person, whatever certificates that person has, or a system. */
export const clientKinds = ['person', 'system'] as const;
export type ClientKind = (typeof clientKinds)[number];

const lengthMax = 100;

/**
 * Control and formatting characters (also those that turn the direction of text), lone surrogates, private use, unassigned; what is
 * drawn as nothing (Unicode Default_Ignorable_Code_Point, and the empty Braille pattern).
 */
const invisible = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
/** Letters of other scripts: some look like Latin ones. */
const foreign = /(?![\p{Script=Latin}\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}])\p{L}/u;

/** Refuses with `bad-request` a name that cannot be read, or that is longer than 100 characters. `where`: what it is sent as. */
export function checkClientName(name: string, where = 'name'): void {
  if (
    name.trim() !== name ||
    [...name].length > lengthMax ||
    invisible.test(name) ||
    !/[\p{L}\p{N}]/u.test(name)
  )
    throw new PkiError(
      'bad-request',
      `${where}: is of 1 to ${lengthMax} characters that can be seen, with a letter or digit, and no space at its ends`,
    );
  if (foreign.test(name))
    throw new PkiError('bad-request', `${where}: its letters are Latin or Japanese: others look like them`);
}

/** What two names have in common that cannot be told apart by case, width or spaces (NFKC, Unicode UAX #15). */
export const foldedName = (name: string): string =>
  name.normalize('NFKC').toLowerCase().normalize('NFKC').replace(/\s+/gu, ' ').trim();
