import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { CertificateStore, Sealed } from '../../store/api/certificate-store.ts';

/** Hashes by which rows are found and requests compared are made with this key. */
export const lookupKey = 'lookup';
/** Octets of an answer are sealed under this key: they name certificates, and are kept for days only. */
export const replyKey = 'replies';

/**
 * Seals personal data with AES-256-GCM under data keys that the token wraps, one for each year of expiry:
 * `iv (12) ‖ ciphertext ‖ tag (16)`. `context` is authenticated, so that no sealed value can take another's place.
 */
export class Sealer {
  readonly #store: Pick<CertificateStore, 'dataKey' | 'findDataKey'>;
  readonly #wrapper: KeyWrapper;
  readonly #keys = new Map<string, Promise<KeyObject>>();

  constructor(store: Pick<CertificateStore, 'dataKey' | 'findDataKey'>, wrapper: KeyWrapper) {
    this.#store = store;
    this.#wrapper = wrapper;
  }

  /** Has the token unwrap keys now, so that what needs them later does not need the token. Rejects with `token-unavailable`. */
  async load(...keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#key(key)));
  }

  /** Name of the key for what concerns a certificate that ends then. */
  static keyFor(notAfterMs: number): string {
    return `year:${new Date(notAfterMs).getUTCFullYear()}`;
  }

  async seal(key: string, context: string, plain: Bytes): Promise<Sealed> {
    return (await this.sealing(key))(context, plain);
  }

  /** Makes a function that seals at once, for use within a transaction. */
  async sealing(key: string): Promise<(context: string, plain: Bytes) => Sealed> {
    const dataKey = await this.#key(key);
    return (context, plain) => {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', dataKey, iv).setAAD(Buffer.from(context));
      return { key, octets: Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]) };
    };
  }

  /** `not-found` where the key has been erased, `internal` where the octets were altered. */
  async open(context: string, { key, octets }: Sealed): Promise<Bytes> {
    const dataKey = await this.#key(key, 'existing');
    try {
      // A shorter tag would be guessed the sooner: 16 octets or nothing.
      const decipher = createDecipheriv('aes-256-gcm', dataKey, octets.subarray(0, 12), {
        authTagLength: 16,
      }).setAAD(Buffer.from(context));
      decipher.setAuthTag(octets.subarray(-16));
      return Buffer.concat([decipher.update(octets.subarray(12, -16)), decipher.final()]);
    } catch (error) {
      throw new PkiError('internal', `sealed data was altered: ${context}`, { cause: error });
    }
  }

  /** Keyed hash for look-ups and comparison of what is not stored. */
  async keyedHash(...parts: readonly Bytes[]): Promise<Bytes> {
    const state = createHmac('sha256', await this.#key(lookupKey));
    for (const part of parts) state.update(part);
    return state.digest();
  }

  /** A key that follows from a data key, 32 octets. */
  async derived(key: string, info: Bytes): Promise<Bytes> {
    return createHmac('sha256', await this.#key(key))
      .update(info)
      .digest();
  }

  #key(name: string, must: 'exist-or-be-made' | 'existing' = 'exist-or-be-made'): Promise<KeyObject> {
    const known = this.#keys.get(name);
    if (known) return known;
    const loading = this.#load(name, must);
    this.#keys.set(name, loading);
    loading.catch(() => this.#keys.delete(name));
    return loading;
  }

  async #load(name: string, must: 'exist-or-be-made' | 'existing'): Promise<KeyObject> {
    const context = `data-key:${name}`;
    let wrapped = await this.#store.findDataKey(name);
    if (!wrapped) {
      if (must === 'existing') throw new PkiError('not-found', `the data key ${name} has been erased`);
      wrapped = await this.#store.dataKey(name, await this.#wrapper.wrap(context, randomBytes(32)));
    }
    const key = await this.#wrapper.unwrap(context, wrapped);
    invariant(key.length === 32, 'a data key is of 32 octets');
    // Node takes a KeyObject three times as fast as octets.
    return createSecretKey(key);
  }
}
