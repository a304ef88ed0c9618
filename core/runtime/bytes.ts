import { createHash, timingSafeEqual } from 'node:crypto';

/** Octets. Never a `Buffer` in signatures, though a Buffer is one. */
export type Bytes = Uint8Array;

export function view(bytes: Bytes): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function hex(bytes: Bytes): string {
  return view(bytes).toString('hex');
}

export function fromHex(text: string): Bytes {
  return Buffer.from(text, 'hex');
}

export function equal(a: Bytes, b: Bytes): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

export function digest(
  hash: 'sha1' | 'sha256' | 'sha384' | 'sha512',
  ...parts: readonly (Bytes | string)[]
): Bytes {
  const state = createHash(hash);
  for (const part of parts) state.update(part);
  return state.digest();
}
