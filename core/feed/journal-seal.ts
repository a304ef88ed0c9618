import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Bytes } from '../runtime/bytes.ts';
import { PkiError } from '../runtime/errors.ts';
import type { FeedBatch } from './feed.ts';

/** What is proven of a batch: where it begins, what it says, where it ends. */
export type ProvenBatch = Pick<FeedBatch, 'from' | 'events' | 'cursor'>;

/** Sealed texts are as long as a multiple of this, so that their length says little. */
const paddedTo = 64;
/** Up to so many characters, setting up a larger window costs more time than it saves octets. */
const shortTextMax = 2048;
const deflatingShort = { level: 1, windowBits: 11, memLevel: 3 } as const;
const deflating = { level: 1 } as const;
/** What one sealed text may hold: bounds what opening takes. */
const openedMax = 64 * 1024 * 1024;

/**
 * What the CA alone reads and writes in the journals of its followers: rows that a restored record must not forget, sealed under
 * fresh randomness (AES-256-GCM), and a proof that a batch is as the CA sent it (HMAC-SHA-256). Both keys come from one that the
 * token wraps; the record has it from its beginning, so that every backup does.
 */
export class JournalSeal {
  readonly #sealing: KeyObject;
  readonly #proving: KeyObject;

  /** `key`: 32 octets. */
  constructor(key: Bytes) {
    const derive = (use: string): KeyObject =>
      createSecretKey(Buffer.from(hkdfSync('sha256', key, new Uint8Array(), `warifu journal ${use}`, 32)));
    this.#sealing = derive('seal');
    this.#proving = derive('proof');
  }

  /** `base64(iv 12 ‖ ciphertext ‖ tag 16)` of the length in four octets, the text deflated, and zeros. */
  seal(text: string): string {
    const deflated = deflateRawSync(text, text.length > shortTextMax ? deflating : deflatingShort);
    const length = Math.ceil((deflated.length + 4) / paddedTo) * paddedTo;
    const plain = Buffer.alloc(length);
    plain.writeUInt32BE(deflated.length);
    deflated.copy(plain, 4);
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#sealing, iv);
    return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString('base64');
  }

  /** Throws `bad-request` where it was not sealed with this key, or was altered. */
  open(sealed: string): string {
    try {
      const octets = Buffer.from(sealed, 'base64');
      const decipher = createDecipheriv('aes-256-gcm', this.#sealing, octets.subarray(0, 12), {
        authTagLength: 16,
      });
      decipher.setAuthTag(octets.subarray(-16));
      const plain = Buffer.concat([decipher.update(octets.subarray(12, -16)), decipher.final()]);
      const deflated = plain.subarray(4, 4 + plain.readUInt32BE());
      return inflateRawSync(deflated, { maxOutputLength: openedMax }).toString('utf8');
    } catch (error) {
      throw new PkiError('bad-request', 'a journal holds what this CA did not seal', { cause: error });
    }
  }

  /** Proof of a batch, base64. */
  prove(batch: ProvenBatch): string {
    return this.#proofOf(batch).toString('base64');
  }

  proves(batch: ProvenBatch, proof: string): boolean {
    const [right, given] = [this.#proofOf(batch), Buffer.from(proof, 'base64')];
    return right.length === given.length && timingSafeEqual(right, given);
  }

  #proofOf({ from, events, cursor }: ProvenBatch): Buffer {
    const text = JSON.stringify([from, cursor.incarnation, cursor.positions, events]);
    return createHmac('sha256', this.#proving).update(text).digest();
  }
}
