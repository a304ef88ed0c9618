import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { Bytes } from '../runtime/bytes.ts';
import { invariant } from '../runtime/errors.ts';

/** Octets of every serial number this scheme issues: within the 20 of RFC 5280 §4.1.2.2. */
export const serialLength = 17;

/** Epochs are the first octet of a serial number, so that it is positive and never needs a sign octet. */
export const epochMax = 0x7f;

/** Positions are 48-bit; the other ten octets of the block are zero, which is what makes forgeries visible. */
const positionOctets = 6;
const paddingOctets = 16 - positionOctets;

/**
 * A serial number is an encrypted position: `epoch octet ‖ AES-128(zero padding ‖ position)`. Unique because
 * positions are used once, unpredictable because the key is secret, and turned back into an array index without
 * a look-up. One instance serves one epoch of one authority; the key stays in memory only.
 */
export class SerialCipher {
  readonly epoch: number;
  readonly #encipher;
  readonly #decipher;

  constructor(epoch: number, key: Bytes) {
    invariant(Number.isInteger(epoch) && epoch >= 1 && epoch <= epochMax, 'an epoch is 1 to 127');
    this.epoch = epoch;
    // Single blocks in ECB keep no state between calls, so that one instance can be used for all.
    this.#encipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false);
    this.#decipher = createDecipheriv('aes-128-ecb', key, null).setAutoPadding(false);
  }

  encrypt(position: number): Bytes {
    return this.encryptAll([position]);
  }

  /** Many at once, one behind the other: a fraction of what each by itself takes. */
  encryptAll(positions: readonly number[]): Bytes {
    const blocks = Buffer.alloc(positions.length * 16);
    for (const [i, position] of positions.entries()) {
      invariant(
        Number.isSafeInteger(position) && position >= 0 && position < 2 ** 48,
        'a position is 48-bit',
      );
      blocks.writeUIntBE(position, i * 16 + paddingOctets, positionOctets);
    }
    const encrypted = this.#encipher.update(blocks);
    const serials = Buffer.alloc(positions.length * serialLength);
    for (let i = 0; i < positions.length; i++) {
      serials[i * serialLength] = this.epoch;
      encrypted.copy(serials, i * serialLength + 1, i * 16, i * 16 + 16);
    }
    return serials;
  }

  /** The position, or undefined where this cipher never made that serial number. */
  decrypt(serial: Bytes): number | undefined {
    if (serial.length !== serialLength || serial[0] !== this.epoch) return undefined;
    const block = this.#decipher.update(serial.subarray(1));
    for (let i = 0; i < paddingOctets; i++) if (block[i] !== 0) return undefined;
    return block.readUIntBE(paddingOctets, positionOctets);
  }
}
