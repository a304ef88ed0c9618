import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';

// To-be-signed bytes without what they have in common with others. Half of a certificate is the same in all of one kind from one key that
// name one distribution point: those runs of octets are kept once, and each certificate keeps what stands between them.
//
//     shortened ::= 01 ‖ base (16) ‖ for each run: length (2) ‖ octets before it ‖ octets behind the last
//     base      ::= for each run: length (2) ‖ its octets

/** What shortened bytes begin with. A TBSCertificate begins with the tag of a SEQUENCE. */
const mark = 0x01;
export const baseIdOctets = 16;
const headOctets = 1 + baseIdOctets;

/** The runs as they are kept. */
export const baseOf = (runs: readonly Bytes[]): Bytes =>
  Buffer.concat(runs.flatMap((run) => [lengthOf(run), run]));

/** The runs of a base. Throws where the octets are none. */
export function runsOf(base: Bytes): readonly Bytes[] {
  const octets = Buffer.from(base.buffer, base.byteOffset, base.length);
  const runs: Bytes[] = [];
  let at = 0;
  while (at < octets.length) {
    const end = at + 2 + octets.readUInt16BE(at);
    invariant(end <= octets.length, 'a base of encodings is whole');
    runs.push(octets.subarray(at + 2, end));
    at = end;
  }
  return runs;
}

/** Shortens bytes in which the runs stand in that order; undefined where one does not. */
export function shorten(toBeSigned: Bytes, baseId: Bytes, runs: readonly Bytes[]): Bytes | undefined {
  const octets = Buffer.from(toBeSigned.buffer, toBeSigned.byteOffset, toBeSigned.length);
  const parts: Bytes[] = [Uint8Array.of(mark), baseId];
  let at = 0;
  for (const run of runs) {
    const found = octets.indexOf(run, at);
    if (found < 0) return undefined;
    const before = octets.subarray(at, found);
    parts.push(lengthOf(before), before);
    at = found + run.length;
  }
  return Buffer.concat([...parts, octets.subarray(at)]);
}

/** The base that bytes were shortened by; undefined of those that were not. */
export const baseIdIn = (kept: Bytes): Bytes | undefined =>
  kept[0] === mark ? kept.subarray(1, headOctets) : undefined;

/** The bytes that were shortened. Throws where they are none of that base. */
export function lengthen(shortened: Bytes, runs: readonly Bytes[]): Bytes {
  const octets = Buffer.from(shortened.buffer, shortened.byteOffset, shortened.length);
  const parts: Bytes[] = [];
  let at = headOctets;
  for (const run of runs) {
    const end = at + 2 + octets.readUInt16BE(at);
    invariant(end <= octets.length, 'a shortened encoding is whole');
    parts.push(octets.subarray(at + 2, end), run);
    at = end;
  }
  return Buffer.concat([...parts, octets.subarray(at)]);
}

function lengthOf({ length }: Bytes): Bytes {
  invariant(length < 0x1_0000, 'a run of octets is shorter than 64 KiB');
  return Uint8Array.of(length >>> 8, length & 0xff);
}
