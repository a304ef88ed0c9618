/** A UUID of version 7 (RFC 9562 §5.7): rows of one time lie together in the record. */
export function uuidAt(ms: number): string {
  const time = ms.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`;
}

/** The time in a UUID of version 7, milliseconds; undefined where the text is none. */
export function timeOfUuid(text: string): number | undefined {
  const match = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/.exec(text);
  return match ? Number.parseInt(`${match[1]}${match[2]}`, 16) : undefined;
}
