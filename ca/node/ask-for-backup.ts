import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { lockData } from '../../core/runtime/data-lock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { keptBackups } from './kept-backups.ts';
import type { Node } from './node.ts';
import { refuseServer } from './record-place.ts';
import { backupFolder } from './scheduled-backup.ts';

const pollMs = 200;

/** Has the running service make a backup now, and waits for it. Gives its file. Throws `bad-request` where no service could, or did. */
export async function askForBackup({ config, layout }: Pick<Node, 'config' | 'layout'>): Promise<string> {
  const folder = backupFolder(config, layout);
  refuseServer(config, 'a backup');
  if (folder === undefined)
    throw new PkiError(
      'bad-request',
      'backups.folder is not configured: name a file for a backup of your own',
    );
  if (!isServed(layout.folder))
    throw new PkiError(
      'bad-request',
      'the service does not run, which makes these backups: name a file for one of your own',
    );
  const before = new Set((await keptBackups(folder)).map(({ name }) => name));
  writeFileSync(layout.backupRequest, '', { mode: 0o600 });
  while (existsSync(layout.backupRequest)) {
    if (!isServed(layout.folder))
      throw new PkiError('bad-request', 'the service ended before it made a backup');
    await setTimeout(pollMs);
  }
  const made = (await keptBackups(folder)).findLast(({ name }) => !before.has(name));
  if (!made) throw new PkiError('record-unavailable', 'no backup was made: the log of the service says why');
  return join(folder, made.name);
}

/** Whether the service has the data folder. */
function isServed(folder: string): boolean {
  try {
    lockData(folder, ['owner'], 'a look at who has the folder').release();
    return false;
  } catch (error) {
    if (error instanceof PkiError && error.code === 'in-use') return true;
    throw error;
  }
}
