import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SerialCipher } from '../../core/crypto/serial.ts';

const position = fc.integer({ min: 0, max: 2 ** 48 - 1 });

describe('serial numbers', () => {
  const cipher = new SerialCipher(3, randomBytes(16));

  it('are 17 octets, positive, and give their position back', () => {
    fc.assert(
      fc.property(position, (value) => {
        const serial = cipher.encrypt(value);
        expect(serial).toHaveLength(17);
        expect(serial[0]).toBe(3);
        expect(cipher.decrypt(serial)).toBe(value);
      }),
    );
  });

  it('are no positions under another key or epoch', () => {
    const other = new SerialCipher(3, randomBytes(16));
    const later = new SerialCipher(4, randomBytes(16));
    fc.assert(
      fc.property(position, (value) => {
        expect(other.decrypt(cipher.encrypt(value))).toBeUndefined();
        expect(later.decrypt(cipher.encrypt(value))).toBeUndefined();
      }),
    );
  });

  it('are no positions when invented', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), (octets) => {
        expect(cipher.decrypt(octets)).toBeUndefined();
      }),
    );
  });
});
