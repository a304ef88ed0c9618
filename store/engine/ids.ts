import { randomBytes } from 'node:crypto';
import { type Bytes, digest } from '../../core/runtime/bytes.ts';
import { uuidAt } from '../../core/runtime/uuid.ts';

/** What the ids of one command are drawn from: 16 octets. */
export const newSeed = (): Bytes => randomBytes(16);

/** Draws the ids of a command, dated at `ms`: a command that is decided again draws the same ones. */
export function idSource(seed: Bytes): (ms: number) => string {
  const input = Buffer.concat([seed, Buffer.alloc(4)]);
  let drawn = 0;
  return (ms) => {
    input.writeUInt32BE(drawn++, seed.length);
    return uuidAt(ms, digest('sha256', input));
  };
}
