import type { Heads, RecordReader } from './record.ts';

/** Of a writer that has written nothing, or where they do not matter. */
export const noHeads: Heads = { sequence: 0, hash: new Uint8Array(32), atMs: 0, position: 0 };

/** Reads them. They stay valid as long as no other process writes under the same name. */
export function readHeads(reader: RecordReader, writer: string): Heads {
  const [entry] = reader.find('audit', { writer }, { descending: true, limit: 1 });
  const [event] = reader.find('event', { writer }, { descending: true, limit: 1 });
  return {
    sequence: entry?.sequence ?? 0,
    hash: entry?.hash ?? new Uint8Array(32),
    atMs: entry?.atMs ?? 0,
    position: event?.position ?? 0,
  };
}

/** Clocks are set by fractions of a second all the time; what is more than this has stepped. */
export const clockStepMs = 5000;
