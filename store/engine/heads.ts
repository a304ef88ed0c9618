import { equal } from '../../core/runtime/bytes.ts';
import { entryFault, genesis, type Position } from './audit-entry.ts';
import type { AuditKey } from './audit-key.ts';
import type { Heads, RecordReader } from './record.ts';

/** Of a writer that has written nothing, or where they do not matter. */
export const noHeads: Heads = { ...genesis, atMs: 0, position: 0 };

/** All who have ever opened the record to write, each by its `meta` row `writer:<name>`. */
export const recordedWriters = (reader: RecordReader): string[] =>
  reader.find('meta', {}).flatMap(({ name, value }) => (name.startsWith('writer:') ? [value] : []));

/** Reads them. They stay valid as long as no other process writes under the same name. */
export function readHeads(reader: RecordReader, writer: string): Heads {
  const [entry] = reader.find('audit', { writer }, { descending: true, limit: 1 });
  const [event] = reader.find('event', { writer }, { descending: true, limit: 1 });
  return {
    sequence: (entry ?? genesis).sequence,
    hash: (entry ?? genesis).hash,
    atMs: entry?.atMs ?? 0,
    position: event?.position ?? 0,
  };
}

/** Entries read at a time. */
const pageSize = 500;

/** Whether an entry that this process knows is still there: what is wrong, or undefined. */
export function headFault(reader: RecordReader, writer: string, known: Position): string | undefined {
  const { sequence, hash } = known;
  if (sequence === 0) return undefined;
  const key = { writer, sequence };
  const [first] = reader.find('audit', { writer }, { limit: 1 });
  // Entries of schema 3 end where those of today begin: what is put behind that is no entry.
  const isOld = first !== undefined && sequence < first.sequence;
  const entry = isOld ? reader.get('auditOfSchema3', key) : reader.get('audit', key);
  if (!entry) return `audit entry ${writer}/${sequence} is gone`;
  return equal(entry.hash, hash) ? undefined : `audit entry ${writer}/${sequence} is another`;
}

/**
 * What is wrong with a writer's chain from a head on that this process knows: whether the head is still there, and whether what
 * another process of this CA has written behind it follows. undefined where nothing is.
 */
export function chainFault(
  reader: RecordReader,
  writer: string,
  from: Position,
  key: AuditKey | null,
): string | undefined {
  const gone = headFault(reader, writer, from);
  if (gone !== undefined) return gone;
  let last = from;
  for (let more = true; more; ) {
    const page = reader.find('audit', { writer }, { after: last.sequence, limit: pageSize });
    for (const entry of page) {
      const fault = entryFault(entry, last, key);
      if (fault !== undefined) return `audit entry ${writer}/${entry.sequence}: ${fault}`;
      last = entry;
    }
    more = page.length === pageSize;
  }
  return undefined;
}

/** Clocks are set by fractions of a second all the time; what is more than this has stepped. */
export const clockStepMs = 5000;
