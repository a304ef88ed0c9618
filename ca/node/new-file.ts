import { openSync } from 'node:fs';
import { resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';

/** Opens a file that must not exist yet, for its owner alone. Throws `bad-request`, naming it. */
export function openNew(name: string): number {
  const file = resolve(name);
  try {
    return openSync(file, 'wx', 0o600);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'EEXIST' ? 'is there already: name another, or remove it' : `cannot be made: ${message}`;
    throw new PkiError('bad-request', `${file} ${why}`, { cause: error });
  }
}
