import type { Bytes } from '../runtime/bytes.ts';

/**
 * Several octet strings in one piece of memory of its own: what goes to a thread is moved there, where a view of a
 * larger buffer would have all of it copied.
 */
export interface Packed {
  readonly octets: Uint8Array<ArrayBuffer>;
  readonly lengths: readonly number[];
}

export function pack(parts: readonly Bytes[]): Packed {
  const octets = new Uint8Array(parts.reduce((total, { length }) => total + length, 0));
  let at = 0;
  for (const part of parts) {
    octets.set(part, at);
    at += part.length;
  }
  return { octets, lengths: parts.map(({ length }) => length) };
}

/** Views of what was packed. */
export function unpack({ octets, lengths }: Packed): Bytes[] {
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return octets.subarray(at - length, at);
  });
}
