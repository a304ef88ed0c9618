import { randomBytes } from 'node:crypto';
import type { Bytes } from './bytes.ts';

/** A UUID of version 7 (RFC 9562 §5.7), of 10 random octets: rows of one time lie together in the record. */
export function uuidAt(ms: number, random: Bytes = randomBytes(10)): string {
  const time = ms.toString(16).padStart(12, '0');
  const hex = Buffer.from(random.subarray(0, 10)).toString('hex');
  const variant = (8 + (Number.parseInt(hex.charAt(3), 16) & 3)).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(0, 3)}-${variant}${hex.slice(4, 7)}-${hex.slice(7, 19)}`;
}

/** The time in a UUID of version 7, milliseconds; undefined where the text is none. */
export function timeOfUuid(text: string): number | undefined {
  const match = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/.exec(text);
  return match ? Number.parseInt(`${match[1]}${match[2]}`, 16) : undefined;
}
