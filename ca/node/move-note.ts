import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { replaceDurably, syncFolder } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Layout } from './layout.ts';

// The note that a move keeps in the data folder: it says where an interrupted command continues.

export type MoveNote =
  /** What is there was begun by this command. */
  | { readonly state: 'copying'; readonly to: string }
  /** The copy is verified: what is left is to put the record aside that was used. */
  | {
      readonly state: 'copied';
      readonly to: string;
      readonly from: 'file' | 'server';
      /** Time of the copy, of which names are made. */
      readonly atMs: number;
      /** What is said in the end. */
      readonly lines: readonly string[];
    };

const fileOf = ({ folder }: Layout): string => join(folder, 'record.moving.json');

/** undefined where nothing is being moved. */
export function readMoveNote(paths: Layout): MoveNote | undefined {
  const file = fileOf(paths);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as MoveNote) : undefined;
}

export const writeMoveNote = (paths: Layout, note: MoveNote): void =>
  replaceDurably(fileOf(paths), JSON.stringify(note));

export function removeMoveNote(paths: Layout): void {
  rmSync(fileOf(paths), { force: true });
  syncFolder(paths.folder);
}

/** Refuses to use a record of which a verified copy is to take the place. */
export function refuseUnfinishedMove(paths: Layout): void {
  const note = readMoveNote(paths);
  if (note?.state === 'copied')
    throw new PkiError(
      'bad-request',
      `the record is being moved to ${note.to}, and was copied there: run the same warifu migrate again, which finishes it`,
    );
}
