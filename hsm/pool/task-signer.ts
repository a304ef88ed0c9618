import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { openSync, writeSync } from 'node:fs';
import { suites } from '../../core/asn1/algorithms.ts';
import type { HealDepth, KeySpec } from '../../core/crypto/signer.ts';
import { type Bytes, hex, view } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { pack, unpack } from '../../core/workers/pack.ts';
import { KeySession } from '../pkcs11/key-session.ts';
import { moduleError, type SigningResult, type SigningTask } from './signing-task.ts';

/** Between two signs of life. */
const beatMs = 200;

/** Signs tasks one after the other, with a session for each key: what a signing thread and a signing process do. */
export class TaskSigner {
  readonly #sessions = new Map<string, KeySession>();
  readonly #logs = new Map<string, number>();
  readonly #publicKeys = new Map<string, KeyObject>();

  /** `beat` is called now and then while a task takes long. */
  sign(task: SigningTask, beat?: () => void): SigningResult {
    const name = JSON.stringify(task.key);
    try {
      return this.#signAll(this.#sessionFor(name, task.key), task, beat);
    } catch {
      // A session or handle that went stale is the common fault, and a new session its cure.
      this.#drop(name);
    }
    try {
      return this.#signAll(this.#sessionFor(name, task.key), task, beat);
    } catch (error) {
      this.#drop(name);
      return { ok: false, error: moduleError(error) };
    }
  }

  /** Begins with new sessions; see `HealDepth` for what becomes of those of before. */
  forget(depth: HealDepth): void {
    for (const session of this.#sessions.values()) {
      if (depth === 'sessions') session.close();
      else session.forget();
    }
    this.#sessions.clear();
  }

  #signAll(session: KeySession, task: SigningTask, beat?: () => void): SigningResult {
    const suite = suites[task.key.suite];
    let saidMs = systemClock.monotonicMs();
    const signatures = unpack(task.inputs).map((input) => {
      const isMessage = task.form === 'message';
      const digest = isMessage ? hash(suite.hash, input, 'buffer') : input;
      if (task.log !== null)
        this.#writeLog(task.log, `${task.purpose} ${task.key.keyLabel} ${hex(digest)}\n`);
      // Its memory is used again for the next one.
      const signature = Uint8Array.from(session.signDigest(digest));
      if (isMessage && !verify(suite.hash, input, this.#publicKey(task.publicKey), signature))
        throw new Error('CKR_SIGNATURE_INVALID');
      if (systemClock.monotonicMs() - saidMs > beatMs) {
        saidMs = systemClock.monotonicMs();
        beat?.();
      }
      return signature;
    });
    return { ok: true, signatures: pack(signatures) };
  }

  #sessionFor(name: string, key: KeySpec): KeySession {
    const opened = this.#sessions.get(name) ?? KeySession.open(key);
    this.#sessions.set(name, opened);
    return opened;
  }

  #drop(name: string): void {
    this.#sessions.get(name)?.close();
    this.#sessions.delete(name);
  }

  #publicKey(der: Bytes): KeyObject {
    const name = view(der).toString('latin1');
    const known =
      this.#publicKeys.get(name) ?? createPublicKey({ key: view(der), format: 'der', type: 'spki' });
    this.#publicKeys.set(name, known);
    return known;
  }

  /** Appends in one call, so that the lines of several threads do not mix. What the kernel has survives the process. */
  #writeLog(file: string, line: string): void {
    const descriptor = this.#logs.get(file) ?? openSync(file, 'a', 0o600);
    this.#logs.set(file, descriptor);
    writeSync(descriptor, line);
  }
}
