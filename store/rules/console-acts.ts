import type { ConsoleActName } from '../../core/model/approval.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { byKey, exclusive, type Rule } from '../engine/rule.ts';

// What was done at the console: acts that two persons have signed for, and backups that were made.

/** An act as two persons signed for it. */
export interface ConsoleAct {
  readonly act: ConsoleActName;
  /** SHA-256 of the plan, hex. */
  readonly planHash: string;
  /** Fingerprints of the certificates whose keys signed. */
  readonly approvedBy: readonly string[];
  readonly atMs: number;
}

interface Noted {
  readonly actor: Actor;
  readonly name: string;
  readonly value: string;
}

const note = (action: string): Rule<Noted, void> => ({
  action,
  actor: ({ actor }) => actor,
  subject: ({ name, value }) => ({ name, value }),
  locks: ({ name }) => [exclusive('meta', name)],
  loads: ({ name }) => [byKey('meta', { name })],
  // Done again, after it was interrupted, it is on record already.
  decide: ({ name, value }, tx) => {
    tx.insertNew('meta', { name, value });
  },
});

const consoleAct = note('consoleAct');
const madeBackup = note('backup');

const actName = (planHash: string): string => `console-act:${planHash}`;
const backupPrefix = 'backup:';

/** Puts an act on record, before it is carried out. */
export function recordConsoleAct(database: RecordDatabase, actor: Actor, act: ConsoleAct): Promise<void> {
  const noted = { actor, name: actName(act.planHash), value: JSON.stringify(act) };
  return database.run(consoleAct, noted, act.atMs);
}

/** Puts on record where a backup was made, for it holds keys that are erased later. */
export function recordBackup(
  database: RecordDatabase,
  actor: Actor,
  { file, atMs }: { readonly file: string; readonly atMs: number },
): Promise<void> {
  const name = `${backupPrefix}${new Date(atMs).toISOString()}`;
  return database.run(madeBackup, { actor, name, value: file }, atMs);
}

const goneBackup: Rule<{ readonly actor: Actor; readonly name: string }, void> = {
  action: 'forgetBackup',
  actor: ({ actor }) => actor,
  subject: ({ name }) => ({ name }),
  locks: ({ name }) => [exclusive('meta', name)],
  loads: ({ name }) => [byKey('meta', { name })],
  decide: ({ name }, tx) => {
    if (tx.get('meta', { name })) tx.remove('meta', { name });
  },
};

/** A backup is gone, and with it the keys that it held. */
export function forgetBackup(
  database: RecordDatabase,
  actor: Actor,
  { madeMs, atMs }: { readonly madeMs: number; readonly atMs: number },
): Promise<void> {
  return database.run(goneBackup, { actor, name: `${backupPrefix}${new Date(madeMs).toISOString()}` }, atMs);
}

/** Backups that were made from this record, oldest first. */
export async function recordedBackups(
  database: RecordDatabase,
): Promise<readonly { readonly file: string; readonly madeAt: string }[]> {
  const rows = await database.read((reader) => reader.find('meta', {}));
  return rows
    .filter(({ name }) => name.startsWith(backupPrefix))
    .map(({ name, value }) => ({ file: value, madeAt: name.slice(backupPrefix.length) }))
    .sort((a, b) => a.madeAt.localeCompare(b.madeAt));
}
