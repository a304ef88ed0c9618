// A signing thread: its own session, the process's login. Errors go back as data, because structured clone would
// drop their class and code.
import { hash } from 'node:crypto';
import { openSync, writeSync } from 'node:fs';
import pkcs11 from 'pkcs11js';
import type { SuiteName } from '../core/algorithms.ts';
import { suites } from '../core/algorithms.ts';
import type { SigningPurpose } from '../core/signer.ts';
import { trimLabel } from './token.ts';

export interface SigningTask {
  readonly module: string;
  /** Rises whenever the module may have been initialized again: handles of before then mean nothing, or another key. */
  readonly generation: number;
  readonly tokenLabel: string;
  readonly keyLabel: string;
  readonly suite: SuiteName;
  readonly purpose: SigningPurpose;
  /** File that gets a line for each message, before it is signed. */
  readonly log: string | null;
  /** The messages, one behind the other in a buffer of their own, which is transferred. */
  readonly packed: Uint8Array<ArrayBuffer>;
  readonly lengths: readonly number[];
}

export type SigningResult =
  | { readonly ok: true; readonly packed: Uint8Array<ArrayBuffer>; readonly lengths: readonly number[] }
  | { readonly ok: false; readonly error: string };

interface OpenKey {
  readonly library: pkcs11.PKCS11;
  readonly session: pkcs11.Handle;
  readonly key: pkcs11.Handle;
}

const libraries = new Map<string, pkcs11.PKCS11>();
const openKeys = new Map<string, OpenKey>();

let generation = 0;

export default function sign(task: SigningTask): SigningResult {
  if (task.generation !== generation) openKeys.clear();
  generation = task.generation;
  const name = JSON.stringify([task.module, task.tokenLabel, task.keyLabel]);
  try {
    return signAll(openKey(name, task), task);
  } catch (first) {
    // A session or handle that went stale is the common fault, and a new session its cure.
    drop(name);
    try {
      return signAll(openKey(name, task), task);
    } catch {
      drop(name);
      return { ok: false, error: /CKR_[A-Z_]+/.exec(String(first))?.[0] ?? 'the token failed' };
    }
  }
}

function signAll({ library, session, key }: OpenKey, task: SigningTask): SigningResult {
  const suite = suites[task.suite];
  const { mechanism, input, signatureLengthMax, toX509 } = suite.pkcs11;
  const signatures: Uint8Array[] = [];
  const scratch = Buffer.alloc(signatureLengthMax);
  let at = 0;
  for (const length of task.lengths) {
    const message = Buffer.from(task.packed.buffer, at, length);
    at += length;
    if (task.log !== null)
      writeLog(task.log, `${task.purpose} ${task.keyLabel} ${hash('sha256', message)}\n`);
    library.C_SignInit(session, { mechanism }, key);
    const signed = library.C_Sign(
      session,
      input === 'digest' ? hash(suite.hash, message, 'buffer') : message,
      scratch,
    );
    signatures.push(Uint8Array.from(toX509(signed)));
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

function openKey(name: string, { module, tokenLabel, keyLabel }: SigningTask): OpenKey {
  const known = openKeys.get(name);
  if (known) return known;
  const library = libraryOf(module);
  const slot = library
    .C_GetSlotList(true)
    .find((candidate) => trimLabel(library.C_GetTokenInfo(candidate).label) === tokenLabel);
  if (!slot) throw new Error('CKR_TOKEN_NOT_PRESENT');
  const session = library.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION);
  library.C_FindObjectsInit(session, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
    { type: pkcs11.CKA_LABEL, value: keyLabel },
  ]);
  const [key] = library.C_FindObjects(session, 1);
  library.C_FindObjectsFinal(session);
  if (!key) {
    library.C_CloseSession(session);
    throw new Error('CKR_KEY_HANDLE_INVALID');
  }
  const open = { library, session, key };
  openKeys.set(name, open);
  return open;
}

function libraryOf(module: string): pkcs11.PKCS11 {
  const known = libraries.get(module);
  if (known) return known;
  const library = new pkcs11.PKCS11();
  library.load(module);
  try {
    library.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  } catch (error) {
    if (!String(error).includes('CKR_CRYPTOKI_ALREADY_INITIALIZED')) throw error;
  }
  libraries.set(module, library);
  return library;
}

function drop(name: string): void {
  const open = openKeys.get(name);
  if (!open) return;
  openKeys.delete(name);
  try {
    open.library.C_CloseSession(open.session);
  } catch (error) {
    // The session was what failed: that it cannot be closed is no news.
    if (!String(error).includes('CKR_')) throw error;
  }
}
