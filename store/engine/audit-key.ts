import { createCipheriv, createHmac, hkdfSync } from 'node:crypto';
import type { Bytes } from '../../core/runtime/bytes.ts';

/**
 * Keys derived from 32 octets that the token wraps: for the HMAC of entries, and for the cipher of row sums (`DigestSum`). An attacker
 * who can write the database has neither.
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

  /** AES-256 of blocks of 16 octets, each by itself: they are halves of digests, effectively unique. */
  blockCipher(): (blocks: Bytes) => Buffer {
    const cipher = createCipheriv('aes-256-ecb', this.#sum, null).setAutoPadding(false);
    return (blocks) => cipher.update(blocks);
  }
}
