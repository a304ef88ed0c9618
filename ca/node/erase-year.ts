import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { eraseDataKey } from '../../store/rules/ceremony-rules.ts';
import { recordedBackups } from '../../store/rules/console-acts.ts';
import { eraseIdentities } from '../../store/rules/same-person.ts';
import { holdsDataKey, removeDataKey } from '../../store/sqlite/other-copies.ts';
import type { Layout } from './layout.ts';
import { type Node, nodeActor } from './node.ts';

// Erasing the personal data of a year: its key, here and in the records that restores have set aside. Backups hold it still: they are named.

/** What erasing a year is about. */
export interface Erasure {
  readonly year: number;
  /** Records that were replaced, and hold the key. */
  readonly replaced: readonly string[];
  /** Backups that hold it, or that cannot be looked into; for a person to destroy. */
  readonly elsewhere: readonly string[];
}

export const yearKey = (year: number): string => `year:${year}`;
export const erasedMemory = (year: number): string => `erased:${year}`;

/** Throws `bad-request` for a year that is not over. */
export async function erasureOf({ layout, clock, database }: Node, year: number): Promise<Erasure> {
  if (!Number.isInteger(year) || year >= new Date(clock.wallMs()).getUTCFullYear())
    throw new PkiError('bad-request', `${year} is not a year that is over`);
  const key = yearKey(year);
  const replaced = replacedRecords(layout).filter((file) => holdsDataKey(file, key));
  const elsewhere: string[] = [];
  for (const { file, madeAt } of await recordedBackups(database)) {
    if (!existsSync(file)) elsewhere.push(`${file} of ${madeAt}, which is not where it was made`);
    else if (isEncrypted(file) || holdsDataKey(file, key)) elsewhere.push(`${file} of ${madeAt}`);
  }
  return { year, replaced, elsewhere };
}

/** One that the service made: it cannot be looked into here, and is from before. */
const isEncrypted = (file: string): boolean => file.endsWith('.tar.age');

/** What erasing does, in words. */
export const erasureLines = ({ year, replaced, elsewhere }: Erasure): string[] => [
  `erases the key of all personal data of certificates that ended in ${year}`,
  ...replaced.map((file) => `erases it from ${file}`),
  ...elsewhere.map((what) => `leaves it in the backup ${what}`),
];

function replacedRecords({ record }: Layout): string[] {
  const folder = dirname(record);
  return readdirSync(folder)
    .filter(
      (name) =>
        /^\.replaced-\d+$/.test(name.slice(basename(record).length)) && name.startsWith(basename(record)),
    )
    .map((name) => join(folder, name))
    .sort();
}

/**
 * Erases the personal data of certificates that ended in a year that is over. Status, audit and the uniqueness of
 * keys stay. A backup from before still holds the key; a restore of one does not bring it back, for the token remembers.
 */
export async function eraseYear(node: Node, { year, replaced }: Erasure): Promise<void> {
  await node.caToken.memory().remember(erasedMemory(year), 1);
  // Those first: the record is what says that it is done.
  for (const file of replaced) removeDataKey(file, yearKey(year));
  await eraseIdentities(node.database, nodeActor(node.config), year);
  await eraseDataKey(node.database, nodeActor(node.config), yearKey(year));
}
