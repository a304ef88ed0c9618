import { deltaKeyOctets, FilterError } from './filter.ts';

// What has changed since a base: certificates that were revoked or held, and those that were released, each by the first twelve octets of
// its encrypted position. That two of a nation's certificates share them has a chance of 2^-43; a base has none.

export interface DeltaEntries {
  /** Serial numbers. */
  readonly revoked: readonly Uint8Array[];
  readonly released: readonly Uint8Array[];
}

const nameOf = (serial: Uint8Array): string =>
  Buffer.from(serial.buffer, serial.byteOffset + serial.length - 16, deltaKeyOctets).toString('latin1');

/** Numbers of both lists (4 ‖ 4, big-endian), then their entries, sorted. */
export function encodeDelta({ revoked, released }: DeltaEntries): Buffer {
  const heads = Buffer.alloc(8);
  heads.writeUInt32BE(revoked.length);
  heads.writeUInt32BE(released.length, 4);
  const listed = [revoked, released].flatMap((serials) => serials.map(nameOf).sort());
  return Buffer.concat([heads, Buffer.from(listed.join(''), 'latin1')]);
}

/** A delta, ready to be asked. */
export class FilterDelta {
  readonly #revoked = new Set<string>();
  readonly #released = new Set<string>();

  /** Throws `FilterError` where the body is not as long as it says. */
  constructor(body: Uint8Array) {
    const octets = Buffer.from(body.buffer, body.byteOffset, body.length);
    const counts = octets.length < 8 ? [] : [octets.readUInt32BE(0), octets.readUInt32BE(4)];
    const [revoked = 0, released = 0] = counts;
    if (octets.length !== 8 + (revoked + released) * deltaKeyOctets)
      throw new FilterError('the delta is not as long as its lists');
    for (let i = 0; i < revoked + released; i += 1) {
      const at = 8 + i * deltaKeyOctets;
      const list = i < revoked ? this.#revoked : this.#released;
      list.add(octets.toString('latin1', at, at + deltaKeyOctets));
    }
  }

  /** What it says of a certificate; undefined where nothing has changed. */
  isRevoked(serial: Uint8Array): boolean | undefined {
    const name = nameOf(serial);
    if (this.#revoked.has(name)) return true;
    return this.#released.has(name) ? false : undefined;
  }
}
