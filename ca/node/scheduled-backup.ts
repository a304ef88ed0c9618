import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { durationMs } from '../../core/config/duration.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { forgetBackup, recordBackup } from '../../store/rules/console-acts.ts';
import type { Config } from '../config/config.ts';
import { backUp } from './backup.ts';
import { encryptFolder } from './encrypted-backup.ts';
import {
  type BackupManifest,
  backupName,
  clearUnfinished,
  keptBackups,
  manifestOf,
  outlived,
  removeBackup,
} from './kept-backups.ts';
import type { Layout } from './layout.ts';
import { type Node, nodeActor } from './node.ts';
import { refuseNotAllowed } from './production.ts';

/** Where the service's own backups go; undefined where it makes none. */
export const backupFolder = ({ backups }: Config, { folder }: Layout): string | undefined =>
  backups.folder === undefined ? undefined : resolve(folder, backups.folder);

/**
 * Makes a backup as configured, which in production two persons have allowed: copies the record, verifies the copy whole, encrypts it, reads
 * it back, and removes those that need not be kept any more. Gives the file. Throws `bad-request` where none are configured, and
 * `record-unavailable` where the record was altered: earlier ones are kept then.
 */
export async function makeScheduledBackup(node: Node): Promise<string> {
  const { config, layout, clock, database } = node;
  await refuseNotAllowed(node);
  const folder = backupFolder(config, layout);
  if (folder === undefined)
    throw new PkiError(
      'bad-request',
      'backups.folder is not configured: name a file for a backup of your own',
    );
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const atMs = clock.wallMs();
  const name = backupName(atMs);
  const file = join(folder, name);
  const work = layout.backupWork;
  rmSync(work, { recursive: true, force: true });
  clearUnfinished(folder);
  mkdirSync(work, { mode: 0o700 });
  try {
    // First, so that the backup itself knows of it.
    await recordBackup(database, nodeActor(config), { file, atMs });
    const { incarnation, auditSequence, rowsVerified } = await backUp(node, join(work, 'record.db'));
    const written = await encryptFolder(work, file, config.backups.recipients);
    const manifest: BackupManifest = {
      madeAt: new Date(atMs).toISOString(),
      ...written,
      ...{ recipients: config.backups.recipients, incarnation, auditSequence, rowsVerified },
    };
    replaceDurably(join(folder, manifestOf(name)), `${JSON.stringify(manifest, null, 2)}\n`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  await removeOutlived(node, folder, atMs);
  return file;
}

async function removeOutlived({ config, database }: Node, folder: string, nowMs: number): Promise<void> {
  const { keepNumber, keepAge } = config.backups;
  const keep = { nowMs, keepAgeMs: durationMs(keepAge), keepNumber };
  for (const { name, madeMs } of outlived(keptBackups(folder), keep)) {
    removeBackup(folder, name);
    if (!existsSync(join(folder, name)))
      await forgetBackup(database, nodeActor(config), { madeMs, atMs: nowMs });
  }
}
