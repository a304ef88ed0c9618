import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { endless } from './bucket.ts';

// Phones of a bucket: of each certificate that was issued to one, what its entry would be made of if a restriction were about it. 17 octets
// a certificate, in the order of epoch and position.

/** What is remembered of a phone's certificate. */
export interface StoredPhone {
  readonly epoch: number;
  readonly position: number;
  /** Number of its class in the publisher's record. */
  readonly classNumber: number;
  /** Of what said so; behind the last of two octets it is the order of the feed that decides. */
  readonly version: number;
  readonly notAfterMs: number;
}

const itemOctets = 17;
const versionMax = 0xffff;
const field = { epoch: 0, position: 1, classNumber: 7, version: 11, notAfterSeconds: 13 } as const;

export function decodePhones(octets: Bytes): StoredPhone[] {
  const buffer = view(octets);
  return Array.from({ length: buffer.length / itemOctets }, (_, i) => {
    const at = i * itemOctets;
    return {
      epoch: buffer.readUInt8(at + field.epoch),
      position: buffer.readUIntLE(at + field.position, 6),
      classNumber: buffer.readUInt32LE(at + field.classNumber),
      version: buffer.readUInt16LE(at + field.version),
      notAfterMs: buffer.readUInt32LE(at + field.notAfterSeconds) * 1000,
    };
  });
}

export function encodePhones(phones: Iterable<StoredPhone>): Bytes {
  const sorted = [...phones].sort((a, b) => a.epoch - b.epoch || a.position - b.position);
  const buffer = Buffer.alloc(sorted.length * itemOctets);
  for (const [i, phone] of sorted.entries()) {
    const at = i * itemOctets;
    buffer.writeUInt8(phone.epoch, at + field.epoch);
    buffer.writeUIntLE(phone.position, at + field.position, 6);
    buffer.writeUInt32LE(phone.classNumber, at + field.classNumber);
    buffer.writeUInt16LE(Math.min(phone.version, versionMax), at + field.version);
    buffer.writeUInt32LE(Math.min(Math.floor(phone.notAfterMs / 1000), endless), at + field.notAfterSeconds);
  }
  return buffer;
}
