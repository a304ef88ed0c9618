import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FileLock } from './file-lock.ts';

// Who may write in a data folder at a time. The owner is the service, or a command that must have the folder to itself;
// commands that may run while the service does take turns with each other, as backups do.

const files = { owner: 'owner.lock', operator: 'operator.lock', backup: 'backup.lock' } as const;
export type DataLock = keyof typeof files;

export const isLockFile = (name: string): boolean =>
  Object.values(files).some((lock) => name.startsWith(lock));

/** Takes locks of a data folder, in one order always. Throws `in-use`, naming who has one; then none is taken. */
export function lockData(folder: string, locks: readonly DataLock[], what: string): { release(): void } {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  using taken = new DisposableStack();
  for (const lock of ['owner', 'operator', 'backup'] as const) {
    if (!locks.includes(lock)) continue;
    const held = FileLock.acquire(join(folder, files[lock]), { what });
    taken.defer(() => held.release());
  }
  const kept = taken.move();
  return { release: () => kept.dispose() };
}
