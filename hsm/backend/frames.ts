import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';

// Messages on a stream of octets between processes that do not trust each other: JSON, and octets behind it.
//
//     frame ::= length of what follows (4) ‖ length of the head (4) ‖ head, JSON ‖ parts
//
// `parts` of the head are the lengths of the parts. Nothing else is deserialized.

/** A message with octets. */
export interface Frame {
  readonly head: Readonly<Record<string, unknown>>;
  readonly parts: readonly Bytes[];
}

/** The longest frame: what is to be signed of a CRL of some hundred thousand entries has room. */
export const frameMax = 64 * 2 ** 20;
const headMax = 2 ** 16;
const partsMax = 64;

export function encodeFrame(head: object, parts: readonly Bytes[] = []): Buffer {
  const text = Buffer.from(JSON.stringify({ ...head, parts: parts.map(({ length }) => length) }));
  const octets = parts.reduce((sum, { length }) => sum + length, 0);
  const length = 4 + text.length + octets;
  if (length > frameMax || text.length > headMax)
    throw new PkiError('too-large', `what is to be signed takes more than ${frameMax} octets`);
  const frame = Buffer.allocUnsafe(4 + length);
  frame.writeUInt32BE(length, 0);
  frame.writeUInt32BE(text.length, 4);
  text.copy(frame, 8);
  let at = 8 + text.length;
  for (const part of parts) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

/** Takes a stream apart, as it comes. */
export class FrameReader {
  #isPartial = false;
  #chunks: Buffer[] = [];
  #octets = 0;
  #wanted = 4;

  /** Whether a frame has begun that has not ended. */
  get isPartial(): boolean {
    return this.#isPartial;
  }

  /** Frames that end with these octets. Throws `bad-request` where they are none, or too long: the stream is to be ended. */
  push(chunk: Buffer): Frame[] {
    this.#chunks.push(chunk);
    this.#octets += chunk.length;
    const frames: Frame[] = [];
    while (this.#octets >= this.#wanted) {
      const octets = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
      const length = octets.readUInt32BE(0);
      if (length < 4 || length > frameMax) throw malformed();
      this.#wanted = 4 + length;
      this.#chunks = [octets];
      if (octets.length < this.#wanted) break;
      frames.push(decode(octets.subarray(4, this.#wanted)));
      const rest = octets.subarray(this.#wanted);
      this.#chunks = rest.length === 0 ? [] : [rest];
      this.#octets = rest.length;
      this.#wanted = 4;
    }
    this.#isPartial = this.#octets > 0;
    return frames;
  }
}

const malformed = (): PkiError => new PkiError('bad-request', 'that is no message of a signer');

function decode(octets: Buffer): Frame {
  const length = octets.readUInt32BE(0);
  if (length > headMax || 4 + length > octets.length) throw malformed();
  let head: Frame['head'];
  try {
    head = JSON.parse(octets.toString('utf8', 4, 4 + length)) as Frame['head'];
  } catch {
    throw malformed();
  }
  if (typeof head !== 'object' || head === null) throw malformed();
  const { parts: lengths } = head;
  if (!Array.isArray(lengths) || lengths.length > partsMax) throw malformed();
  let at = 4 + length;
  const parts = lengths.map((each: unknown) => {
    if (!Number.isSafeInteger(each) || Number(each) < 0 || at + Number(each) > octets.length)
      throw malformed();
    at += Number(each);
    return octets.subarray(at - Number(each), at);
  });
  if (at !== octets.length) throw malformed();
  return { head, parts };
}
