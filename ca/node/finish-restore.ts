import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import { replaceDurably, syncFolder } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Layout } from './layout.ts';

// A restored record takes the place of the one before in several steps: the token learns of it, files are renamed. A note says which,
// so that a process that dies in between is no loss: the next start, or restore, finishes them.

interface Note {
  readonly remember: readonly (readonly [name: string, value: number])[];
  readonly atMs: number;
}

/** Where a restore works: a record that is complete once there is a note. */
export const workingRecord = ({ record }: Layout): string => `${record}.restoring`;

const noteFile = ({ record }: Layout): string => `${record}.restored`;

/** Whether a restored record is complete, and has not taken its place. */
export const isUnfinished = (paths: Layout): boolean => existsSync(noteFile(paths));

/** Puts the working record in place, once the token has learned `remember`. */
export async function placeRestored(paths: Layout, memory: TokenMemory, note: Note): Promise<void> {
  replaceDurably(noteFile(paths), JSON.stringify(note));
  await finishRestore(paths, memory);
}

/** Does what a restore had still to do. Done again it changes nothing. */
export async function finishRestore(paths: Layout, memory: TokenMemory): Promise<void> {
  if (!isUnfinished(paths)) return;
  const { remember, atMs } = JSON.parse(readFileSync(noteFile(paths), 'utf8')) as Note;
  for (const [name, value] of remember) await memory.remember(name, value);
  const working = workingRecord(paths);
  if (existsSync(working)) replaceDatabase(paths.record, working, atMs);
  syncFolder(dirname(paths.record));
  rmSync(noteFile(paths));
}

/** Finishes a restore whose process died near its end, in place of another. */
export async function refuseInterrupted(paths: Layout, memory: TokenMemory): Promise<void> {
  if (!isUnfinished(paths)) return;
  await finishRestore(paths, memory);
  throw new PkiError(
    'bad-request',
    'a restore that was interrupted is finished now: start the service, or restore again',
  );
}

const databaseFiles = (file: string): string[] => ['', '-wal', '-shm'].map((suffix) => `${file}${suffix}`);

export function removeDatabase(file: string): void {
  for (const part of databaseFiles(file)) rmSync(part, { force: true });
}

function replaceDatabase(file: string, by: string, nowMs: number): void {
  for (const part of databaseFiles(file)) {
    if (existsSync(part)) renameSync(part, part.replace(file, `${file}.replaced-${nowMs}`));
  }
  renameSync(by, file);
}
