import { createCipheriv, createHmac, hkdfSync } from 'node:crypto';
import type { Bytes } from '../../core/runtime/bytes.ts';

/**
 * What only this CA can make of an audit chain: the code that authenticates an entry, and the numbers whose sum stands for many
 * rows (`DigestSum`). Made of 32 octets that the token wraps, so that whoever can write the database has neither.
 */
export class AuditKey {
  readonly #mac: Buffer;
  readonly #sum: Buffer;

  constructor(key: Bytes) {
    const derive = (use: string): Buffer =>
      Buffer.from(hkdfSync('sha256', key, '', `warifu audit ${use}`, 32));
    this.#mac = derive('entry');
    this.#sum = derive('sum');
  }

  /** HMAC-SHA-256 of an entry's hash. */
  authenticate(hash: Bytes): Bytes {
    return createHmac('sha256', this.#mac).update(hash).digest();
  }

  /** AES-256 of blocks of 16 octets, each by itself: digests are never equal where rows are not. */
  blockCipher(): (blocks: Bytes) => Buffer {
    const cipher = createCipheriv('aes-256-ecb', this.#sum, null).setAutoPadding(false);
    return (blocks) => cipher.update(blocks);
  }
}
