import { PkiError } from '../runtime/errors.ts';

const lineFeed = 0x0a;

/**
 * The lines of a stream of octets, without their line feeds; the last may lack one, empty ones are left out. Views of
 * what was received where a line came in one piece. Throws `too-large` for a line of more octets than `octetsMax`.
 */
export async function* linesOf(octets: AsyncIterable<Uint8Array>, octetsMax: number): AsyncIterable<Buffer> {
  let begun: Buffer[] = [];
  let length = 0;
  for await (const received of octets) {
    const chunk = Buffer.from(received.buffer, received.byteOffset, received.byteLength);
    let at = 0;
    for (let end = chunk.indexOf(lineFeed); end >= 0; end = chunk.indexOf(lineFeed, at)) {
      const piece = chunk.subarray(at, end);
      check(length + piece.length, octetsMax);
      const line = begun.length === 0 ? piece : Buffer.concat([...begun, piece]);
      at = end + 1;
      begun = [];
      length = 0;
      if (line.length > 0) yield line;
    }
    if (at === chunk.length) continue;
    begun.push(chunk.subarray(at));
    length += chunk.length - at;
    check(length, octetsMax);
  }
  if (length > 0) yield Buffer.concat(begun);
}

function check(length: number, octetsMax: number): void {
  if (length > octetsMax) throw new PkiError('too-large', `a line of more than ${octetsMax} octets`);
}
