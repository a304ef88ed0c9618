import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { lockData } from '../../core/runtime/data-lock.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';
import { backUp } from './backup.ts';
import { encryptFolder } from './encrypted-backup.ts';
import { type BackupManifest, backupName, clearUnfinished, manifestOf } from './kept-backups.ts';
import type { Layout } from './layout.ts';
import type { Node } from './node.ts';
import { refuseNotAllowed } from './production.ts';

/** Where the service's own backups go; undefined where it makes none. */
export const backupFolder = ({ backups }: Config, { folder }: Layout): string | undefined =>
  backups.folder === undefined ? undefined : resolve(folder, backups.folder);

/**
 * Makes a backup as configured, which in production two persons have allowed: copies the record, verifies the copy whole, encrypts it, and reads
 * it back. It writes nothing to the record: by what time it is, and what is kept, is for the service to say, whose clock is watched. Gives
 * the names of backups that were cleared away. Throws `in-use` while another is being made, `record-unavailable` where the record was
 * altered, and `bad-request` where the folder is not there.
 */
export async function makeScheduledBackup(node: Node, atMs: number): Promise<readonly string[]> {
  const { config, layout } = node;
  await refuseNotAllowed(node);
  const folder = backupFolder(config, layout);
  if (folder === undefined) throw new PkiError('bad-request', 'backups.folder is not configured');
  refuseMissing(folder);
  using taken = new DisposableStack();
  const lock = lockData(layout.folder, ['backup'], 'a backup');
  taken.defer(() => lock.release());
  const cleared = await clearUnfinished(folder);
  const work = layout.backupWork;
  taken.defer(() => rmSync(work, { recursive: true, force: true }));
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { mode: 0o700 });
  const name = backupName(atMs);
  const { incarnation, auditSequence, rowsVerified } = await backUp(node, join(work, 'record.db'));
  const written = await encryptFolder(work, join(folder, name), config.backups.recipients);
  const manifest: BackupManifest = {
    madeAt: new Date(atMs).toISOString(),
    ...written,
    ...{ recipients: config.backups.recipients, incarnation, auditSequence, rowsVerified },
  };
  replaceDurably(join(folder, manifestOf(name)), `${JSON.stringify(manifest, null, 2)}\n`);
  return cleared;
}

/** A folder that is not there may be a disk that is not mounted: what is made in its place would fill another. */
function refuseMissing(folder: string): void {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found?.isDirectory())
    throw new PkiError(
      'bad-request',
      `backups.folder: there is no folder ${folder}: make it, or mount its disk`,
    );
}
