import { lstatSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';

const [writableByOthers, sticky] = [0o022, 0o1000];

/**
 * Refuses with `bad-request` files that say what the signer does, and that another user than root or its own may write, rename or put another in
 * the place of: each file and every folder above it. A folder that is sticky lets others make files, and touch none but their own.
 */
export function refuseWritable(files: readonly string[]): void {
  const own = process.geteuid?.() ?? 0;
  for (const file of files)
    for (let place = resolve(file), isFolder = false; ; place = dirname(place), isFolder = true) {
      const found = lstatSync(place, { throwIfNoEntry: false });
      const isOthers = found && found.uid !== 0 && found.uid !== own;
      const isOpen =
        found &&
        !found.isSymbolicLink() &&
        (found.mode & writableByOthers) !== 0 &&
        !(isFolder && (found.mode & sticky) !== 0);
      if (isOthers || isOpen)
        throw new PkiError(
          'bad-request',
          `${place} ${isOthers ? 'is another user’s' : 'may be written by others'}: who can change ${file} decides what the signer does (docs/OPERATIONS.md: a signer of another user)`,
        );
      if (place === dirname(place)) break;
    }
}
