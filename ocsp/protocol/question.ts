import { serialLength } from '../../core/crypto/serial.ts';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import type { CertId, OcspRequest } from './request.ts';

/** One certificate asked about, in the form that nearly every request has. */
export interface Question<Context> {
  readonly context: Context;
  /** 17 octets. */
  readonly serial: Bytes;
  readonly nonce: Bytes | null;
}

/** A request but for its serial number and nonce: whatever else equals it octet for octet means the same. */
interface Shape<Context> {
  readonly context: Context;
  readonly head: Buffer;
  readonly serialAt: number;
  readonly middle: Buffer;
  readonly middleAt: number;
  /** Zero where there is none; else it ends the request. */
  readonly nonceLength: number;
}

/** Shapes kept: for each of a few authorities, hashes and nonce lengths one. */
const shapesMax = 64;
/** A request longer than that is none that has a shape. */
const shapeOctetsMax = 512;

/**
 * Remembers what requests look like that were parsed in full. Clients of one kind send the same octets but for serial
 * number and nonce, and comparing is much cheaper than parsing.
 */
export class Shapes<Context> {
  #byLength = new Map<number, Shape<Context>[]>();
  #count = 0;

  clear(): void {
    this.#byLength.clear();
    this.#count = 0;
  }

  match(request: Buffer): Question<Context> | undefined {
    const shapes = this.#byLength.get(request.length);
    if (!shapes) return undefined;
    for (const shape of shapes) {
      const { head, serialAt, middle, middleAt, nonceLength } = shape;
      const first = request[serialAt] ?? 0;
      if (
        // Of a positive number without padding any other octets may follow.
        first > 0 &&
        first < 0x80 &&
        request.compare(head, 0, head.length, 0, serialAt) === 0 &&
        (middle.length === 0 ||
          request.compare(middle, 0, middle.length, middleAt, middleAt + middle.length) === 0)
      ) {
        const serial = request.subarray(serialAt, middleAt);
        const nonce = nonceLength === 0 ? null : request.subarray(request.length - nonceLength);
        return { context: shape.context, serial, nonce };
      }
    }
    return undefined;
  }

  /** Remembers the shape of a request that asks about one certificate with a serial number like ours. */
  learn(request: Buffer, { certIds, nonce }: OcspRequest, context: Context): void {
    const serial = certIds[0]?.serial;
    const nonceLength = nonce?.length ?? 0;
    if (!serial || request.length > shapeOctetsMax) return;
    const serialAt = serial.byteOffset - request.byteOffset;
    const middleAt = serialAt + serial.length;
    const end = request.length - nonceLength;
    // A nonce that something follows belongs to a request of an unusual kind.
    if (nonce && nonce.byteOffset - request.byteOffset !== end) return;
    if (this.#count >= shapesMax) this.clear();
    const shape: Shape<Context> = {
      context,
      head: Buffer.from(request.subarray(0, serialAt)),
      serialAt,
      middle: Buffer.from(request.subarray(middleAt, end)),
      middleAt,
      nonceLength,
    };
    this.#byLength.set(request.length, [...(this.#byLength.get(request.length) ?? []), shape]);
    this.#count += 1;
  }
}

/** Whether a serial number has the form of ours, of which there can be a shape. */
export const isOfOurForm = ({ serial }: CertId): boolean =>
  serial.length === serialLength && (serial[0] ?? 0) > 0 && (serial[0] ?? 0) < 0x80;

/** Everything of a CertID but the serial number, as hex. */
export const certIdPrefix = ({ encoded, serial }: CertId): string =>
  hex(encoded.subarray(0, encoded.length - serial.length));
