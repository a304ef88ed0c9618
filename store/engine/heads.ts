import type { Bytes } from '../../core/runtime/bytes.ts';
import type { RecordReader } from './record.ts';

/** How far a writer's chains have come within the transactions at hand. */
export interface Heads {
  /** Of its audit chain; zero and zeros before the first entry. */
  readonly sequence: number;
  readonly hash: Bytes;
  /** The latest time of its entries: that of the last. */
  readonly atMs: number;
  /** Of its status feed. */
  readonly position: number;
}

/** Reads them: once, as long as nobody else writes under the same name. */
export async function readHeads(reader: RecordReader, writer: string): Promise<Heads> {
  const [entry] = await reader.find('audit', { writer }, { descending: true, limit: 1 });
  const [event] = await reader.find('event', { writer }, { descending: true, limit: 1 });
  return {
    sequence: entry?.sequence ?? 0,
    hash: entry?.hash ?? new Uint8Array(32),
    atMs: entry?.atMs ?? 0,
    position: event?.position ?? 0,
  };
}

/** Clocks are set by fractions of a second all the time; what is more than this has stepped. */
export const clockStepMs = 5000;
