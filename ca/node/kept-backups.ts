import { readdir, readFile, rm, stat } from 'node:fs/promises';
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

/** When a backup of that name was made; undefined for a name of something else. */
export function madeMsOf(name: string): number | undefined {
  const [, ...parts] = pattern.exec(name) ?? [];
  const [year = 0, month = 1, ...rest] = parts.map(Number);
  return parts.length === 0 ? undefined : Date.UTC(year, month - 1, ...rest);
}

/** Backups that are whole, oldest first: each with its manifest, which is written last. Rejects where the folder cannot be read. */
export async function keptBackups(folder: string): Promise<KeptBackup[]> {
  const kept: KeptBackup[] = [];
  for (const name of await namesIn(folder)) {
    const madeMs = madeMsOf(name);
    if (madeMs !== undefined && (await isWhole(folder, name))) kept.push({ name, madeMs });
  }
  return kept.sort((a, b) => a.madeMs - b.madeMs);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Whatever is wrong with its manifest, a backup is none that can be relied on. */
async function isWhole(folder: string, name: string): Promise<boolean> {
  try {
    const manifest: unknown = JSON.parse(await readFile(join(folder, manifestOf(name)), 'utf8'));
    const { size } = await stat(join(folder, name));
    return (manifest as Partial<BackupManifest> | null)?.octets === size;
  } catch {
    return false;
  }
}

/**
 * Those that need not be kept any more: older than `keepAgeMs`, and not among the newest `keepNumber`. What is dated later than now is of a
 * clock that was wrong: it is kept, and counts for nothing.
 */
export function outlived(
  kept: readonly KeptBackup[],
  of: { readonly nowMs: number; readonly keepAgeMs: number; readonly keepNumber: number },
): readonly KeptBackup[] {
  const past = pastOf(kept, of.nowMs);
  return past
    .slice(0, Math.max(0, past.length - of.keepNumber))
    .filter(({ madeMs }) => of.nowMs - madeMs > of.keepAgeMs);
}

export const pastOf = (kept: readonly KeptBackup[], nowMs: number): readonly KeptBackup[] =>
  kept.filter(({ madeMs }) => madeMs <= nowMs);

/** Removes a backup: its manifest first, without which it is none. */
export async function removeBackup(folder: string, name: string): Promise<void> {
  for (const file of [manifestOf(name), name]) await rm(join(folder, file), { force: true });
}

/** Removes what processes left that ended in the middle: of making a backup, or of removing one. Gives the names of the backups that it was. */
export async function clearUnfinished(folder: string): Promise<string[]> {
  const names = await namesIn(folder);
  const cleared: string[] = [];
  for (const name of names) {
    const whole = name.replace(/\.new$/, '');
    if (madeMsOf(whole) === undefined || (whole === name && names.includes(manifestOf(name)))) continue;
    await rm(join(folder, name), { force: true });
    cleared.push(whole);
  }
  return cleared;
}
