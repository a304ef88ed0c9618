import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { Suite } from '../../core/asn1/algorithms.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';

/** Makes signatures for responses, at once on this thread or later on another. */
export interface ResponseSigner {
  readonly suite: Suite;
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Bytes;
  /** Throws, or rejects with, `token-unavailable` or `overloaded`. */
  sign(message: Bytes): Bytes | Promise<Bytes>;
}

/** One in so many ECDSA signatures is checked: a check costs more than the signature. */
const sampleEvery = 1024;

/**
 * Checks what a token returns before anybody sees it. RSA each time: it is cheap, and a wrong signature by a key with CRT
 * gives its factors away (Boneh, DeMillo, Lipton 1997). ECDSA the first time, and then now and then: what is looked for
 * is a handle that means another key.
 */
export class CheckedSigner implements ResponseSigner {
  readonly suite: Suite;
  readonly publicKey: Bytes;
  readonly #sign: (message: Bytes) => Bytes | Promise<Bytes>;
  readonly #key: KeyObject;
  readonly #every: number;
  readonly #onWrong: () => void;
  #signed = 0;

  /** `onWrong` receives a signature that was not the key's. */
  constructor(options: ResponseSigner, onWrong: () => void = () => undefined) {
    this.#onWrong = onWrong;
    this.suite = options.suite;
    this.publicKey = options.publicKey;
    this.#sign = (message) => options.sign(message);
    this.#key = createPublicKey({ key: view(options.publicKey), format: 'der', type: 'spki' });
    this.#every = options.suite.key.type === 'rsa' ? 1 : sampleEvery;
  }

  sign(message: Bytes): Bytes | Promise<Bytes> {
    const signature = this.#sign(message);
    const check = this.#signed++ % this.#every === 0;
    if (!check) return signature;
    if (signature instanceof Promise) return signature.then((signed) => this.#check(message, signed));
    return this.#check(message, signature);
  }

  /** The next signature is checked, whichever it is: the token was opened again. */
  recheck(): void {
    this.#signed = 0;
  }

  #check(message: Bytes, signature: Bytes): Bytes {
    if (verify(this.suite.hash, message, this.#key, signature)) return signature;
    this.recheck();
    this.#onWrong();
    throw new PkiError('token-unavailable', 'the token returned a signature that is not its key’s');
  }
}
