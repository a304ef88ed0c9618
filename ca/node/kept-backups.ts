import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

// The folder of the backups that the service makes: each is one encrypted file, and a file that says what it is.

/** What stands next to a backup; JSON. */
export interface BackupManifest {
  readonly madeAt: string;
  readonly octets: number;
  /** Of the encrypted file, hex. */
  readonly sha256: string;
  readonly recipients: readonly string[];
  /** Of the record, and how far its audit chain goes, which was verified whole. */
  readonly incarnation: string;
  readonly auditSequence: number;
  readonly rowsVerified: number;
}

export interface KeptBackup {
  /** Name of the encrypted file. */
  readonly name: string;
  readonly madeMs: number;
}

const pattern = /^warifu-(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(\d{3})Z\.tar\.age$/;

export const backupName = (atMs: number): string =>
  `warifu-${new Date(atMs).toISOString().replaceAll(/[-:.]/g, '')}.tar.age`;

export const manifestOf = (name: string): string => name.replace(/\.tar\.age$/, '.json');

/** Backups that are whole, oldest first: each with its manifest, which is written last. */
export function keptBackups(folder: string): KeptBackup[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((name) => {
      const [, ...parts] = pattern.exec(name) ?? [];
      const [year = 0, month = 1, ...rest] = parts.map(Number);
      if (parts.length === 0 || !isWhole(folder, name)) return [];
      return [{ name, madeMs: Date.UTC(year, month - 1, ...rest) }];
    })
    .sort((a, b) => a.madeMs - b.madeMs);
}

function isWhole(folder: string, name: string): boolean {
  try {
    const manifest = JSON.parse(readFileSync(join(folder, manifestOf(name)), 'utf8')) as BackupManifest;
    return statSync(join(folder, name)).size === manifest.octets;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Those that need not be kept any more: older than `keepAgeMs`, and not among the newest `keepNumber`. */
export function outlived(
  kept: readonly KeptBackup[],
  {
    nowMs,
    keepAgeMs,
    keepNumber,
  }: { readonly nowMs: number; readonly keepAgeMs: number; readonly keepNumber: number },
): readonly KeptBackup[] {
  return kept
    .slice(0, Math.max(0, kept.length - keepNumber))
    .filter(({ madeMs }) => nowMs - madeMs > keepAgeMs);
}

/** Removes a backup: its manifest first, without which it is none. */
export function removeBackup(folder: string, name: string): void {
  for (const file of [manifestOf(name), name]) rmSync(join(folder, file), { force: true });
}

/** What a process left that ended in the middle of a backup. */
export function clearUnfinished(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (name.endsWith('.tar.age.new') && pattern.test(name.slice(0, -'.new'.length)))
      rmSync(join(folder, name), { force: true });
}
