import type { HealDepth, KeySpec, ModuleUser } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { KeySession } from '../pkcs11/key-session.ts';
import { moduleError } from '../pool/signing-task.ts';

/**
 * Signs on the calling thread, one at a time, without a queue: the fastest way where the token is on this machine, and
 * the wrong one where a signature means waiting for a network.
 */
export class InlineSigner implements ModuleUser {
  readonly #key: KeySpec;
  #session: KeySession | undefined;
  #paused = false;
  #isClosed = false;

  constructor(key: KeySpec) {
    this.#key = key;
  }

  /** The signature as X.509 carries it. Throws `token-unavailable`, also while the module is being healed. */
  sign(message: Bytes): Bytes {
    if (this.#paused) throw new PkiError('token-unavailable', 'the token is being opened again');
    try {
      return this.#signOnce(message);
    } catch {
      // A session or handle that went stale is the common fault, and a new session its cure.
      this.#drop();
    }
    try {
      return this.#signOnce(message);
    } catch (error) {
      this.#drop();
      throw new PkiError(
        'token-unavailable',
        `signing with key ${this.#key.keyLabel}: ${moduleError(error)}`,
      );
    }
  }

  /** Calls are made by this thread only: when it runs this, none is under way. */
  async pause(): Promise<void> {
    this.#paused = true;
  }

  resume(depth: HealDepth): void {
    this.#paused = false;
    if (depth === 'sessions') this.#drop();
    this.#session?.forget();
    this.#session = undefined;
  }

  /** Lets go of its session; what still comes has one of its own each. */
  close(): void {
    this.#isClosed = true;
    this.#drop();
  }

  /** The session is of no use any more: the next signature has another. */
  renew(): void {
    this.#drop();
  }

  #signOnce(message: Bytes): Bytes {
    const signature = this.#open().sign(message);
    if (this.#isClosed) this.#drop();
    return signature;
  }

  #open(): KeySession {
    this.#session ??= KeySession.open(this.#key);
    return this.#session;
  }

  #drop(): void {
    this.#session?.close();
    this.#session = undefined;
  }
}
