import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { FileLock } from '../../core/runtime/file-lock.ts';

// A token locks after a few wrong PINs, for everybody and maybe for good. So a PIN that was refused is never tried again,
// by no process of this data folder and after no restart, before an operator has removed the note that says so.

const suffix = '.pin-refused';
/** Log-ins of one folder wait for each other, so that two processes do not try one wrong PIN at once. */
const waitMs = 10_000;

let folder: string | undefined;
/** For a process without a folder. */
const refusedHere = new Set<string>();

/** Keeps notes of refused PINs in a folder; before the first log-in. */
export function guardLogins(ofFolder: string): void {
  mkdirSync(ofFolder, { recursive: true, mode: 0o700 });
  folder = ofFolder;
}

/** Labels of tokens whose PIN was refused. */
export function refusedPins(ofFolder: string): string[] {
  if (!existsSync(ofFolder)) return [];
  return readdirSync(ofFolder)
    .filter((name) => name.endsWith(suffix))
    .map((name) => decodeURIComponent(name.slice(0, -suffix.length)));
}

const noteOf = (of: string, label: string): string => join(of, `${encodeURIComponent(label)}${suffix}`);

/** CKR_PIN_INCORRECT, _INVALID, _LEN_RANGE, _EXPIRED, _LOCKED: the token was asked with a PIN, and does not take it. */
const isRefusal = (error: unknown): boolean => /CKR_PIN_/.test(String((error as Error).message));

/** Runs a log-in to a token. Throws `token-unavailable` without running it where the token's PIN was refused before. */
export function guardedLogin(label: string, login: () => void): void {
  const of = folder;
  const lock =
    of === undefined ? undefined : FileLock.acquire(join(of, 'login.lock'), { what: 'a log-in', waitMs });
  try {
    refuseRepetition(of, label);
    try {
      login();
    } catch (error) {
      if (isRefusal(error)) noteRefusal(of, label, (error as Error).message);
      throw error;
    }
  } finally {
    lock?.release();
  }
}

function noteRefusal(of: string | undefined, label: string, why: string): void {
  refusedHere.add(label);
  if (of !== undefined) writeFileSync(noteOf(of, label), `${why}\n`, { mode: 0o600 });
}

function refuseRepetition(of: string | undefined, label: string): void {
  const note = of === undefined ? undefined : noteOf(of, label);
  const isRefused = note === undefined ? refusedHere.has(label) : existsSync(note);
  if (!isRefused) return;
  const why = note === undefined ? '' : `, ${readFileSync(note, 'utf8').trim()}`;
  const act =
    note === undefined ? 'start again with the right one' : `put the right one in place, then remove ${note}`;
  throw new PkiError(
    'token-unavailable',
    `the PIN of token ${label} was refused${why}: it is not tried again, for the token would lock; ${act}`,
  );
}
