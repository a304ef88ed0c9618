// A signing thread: its own session, the process's login. Errors go back as data, because structured clone would
// drop their class and code.
import { openSync, writeSync } from 'node:fs';
import { hex } from '../core/bytes.ts';
import type { KeySpec, SigningPurpose } from '../core/signer.ts';
import { KeySession, moduleError } from './key-session.ts';

export interface SigningTask {
  readonly key: KeySpec;
  /** Rises whenever the module may have been initialized again: handles of before then mean nothing, or another key. */
  readonly generation: number;
  readonly purpose: SigningPurpose;
  /** File that gets a line for each digest, before it is signed. */
  readonly log: string | null;
  /** Digests of the messages, one behind the other in a buffer of their own, which is transferred. */
  readonly packed: Uint8Array<ArrayBuffer>;
  readonly lengths: readonly number[];
}

export type SigningResult =
  | { readonly ok: true; readonly packed: Uint8Array<ArrayBuffer>; readonly lengths: readonly number[] }
  | { readonly ok: false; readonly error: string };

const sessions = new Map<string, KeySession>();

let generation = 0;

export default function sign(task: SigningTask): SigningResult {
  if (task.generation !== generation) sessions.clear();
  generation = task.generation;
  const name = JSON.stringify(task.key);
  try {
    return signAll(sessionFor(name, task.key), task);
  } catch (first) {
    // A session or handle that went stale is the common fault, and a new session its cure.
    drop(name);
    try {
      return signAll(sessionFor(name, task.key), task);
    } catch {
      drop(name);
      return { ok: false, error: moduleError(first) };
    }
  }
}

function signAll(session: KeySession, task: SigningTask): SigningResult {
  const signatures: Uint8Array[] = [];
  let at = 0;
  for (const length of task.lengths) {
    const digest = Buffer.from(task.packed.buffer, at, length);
    at += length;
    if (task.log !== null) writeLog(task.log, `${task.purpose} ${task.key.keyLabel} ${hex(digest)}\n`);
    signatures.push(Uint8Array.from(session.signDigest(digest)));
  }
  const packed = new Uint8Array(signatures.reduce((total, { length }) => total + length, 0));
  let offset = 0;
  for (const signature of signatures) {
    packed.set(signature, offset);
    offset += signature.length;
  }
  return { ok: true, packed, lengths: signatures.map(({ length }) => length) };
}

const logs = new Map<string, number>();

/** Appends in one call, so that the lines of several threads do not mix. What the kernel has survives the process. */
function writeLog(file: string, line: string): void {
  const descriptor = logs.get(file) ?? openSync(file, 'a', 0o600);
  logs.set(file, descriptor);
  writeSync(descriptor, line);
}

function sessionFor(name: string, key: KeySpec): KeySession {
  const known = sessions.get(name);
  if (known) return known;
  const opened = KeySession.open(key);
  sessions.set(name, opened);
  return opened;
}

function drop(name: string): void {
  sessions.get(name)?.close();
  sessions.delete(name);
}
