import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { PkiError } from './errors.ts';

/**
 * The text of a file that holds a secret. Throws `bad-request` where others than its owner can read it: a secret that was
 * readable is to be replaced, which is for its owner to know, and the error of the file system where it cannot be read.
 */
export function readSecret(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const { mode } = fstatSync(descriptor);
    if ((mode & 0o077) !== 0)
      throw new PkiError(
        'bad-request',
        `${file} can be read or written by others than its owner: chmod 600 it, and replace what it holds if they may have`,
      );
    return readFileSync(descriptor, 'utf8');
  } finally {
    closeSync(descriptor);
  }
}
