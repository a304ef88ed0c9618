import {
  closeSync,
  createReadStream,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { PkiError } from './errors.ts';
import type { FeedBatch, FeedCursor, FeedEvent, FeedFollower } from './feed.ts';

/** A batch as it stands on one line of a journal. */
type JournalLine = Pick<FeedBatch, 'events' | 'cursor'>;

/** How far a journal goes: the cursor to follow from, and where in the file the line behind it begins. */
export interface JournalMark {
  readonly cursor: FeedCursor;
  readonly octets: number;
}

/**
 * What a follower has heard, on its own disk: it goes on from there after a restart, and a CA that was restored
 * from an older backup learns from it what it has forgotten. Holds no personal data and no key.
 *
 * One line a batch. A line that a crash cut short is cut off: the feed delivers it again.
 */
export class FeedJournal {
  readonly #file: string;
  #mark: JournalMark | undefined;
  /** Whether its last line is known to be whole. */
  #isWhole = false;

  constructor(file: string) {
    this.#file = file;
  }

  /** How far it goes by what was played back or written through this object; undefined for an empty journal. */
  get mark(): JournalMark | undefined {
    return this.#mark;
  }

  /**
   * Plays everything back, or what stands behind a mark, and returns the cursor to go on from; undefined for an empty
   * journal.
   */
  async replay(follower: FeedFollower, from?: JournalMark): Promise<FeedCursor | undefined> {
    this.#mark = from;
    for await (const { line, end } of readJournal(this.#file, 'repair', from?.octets)) {
      await follower.apply({ ...line, watermarkMs: 0 });
      this.#mark = { cursor: line.cursor, octets: end };
    }
    return this.#mark?.cursor;
  }

  /** Whether a mark can be of this journal. */
  reaches({ octets }: JournalMark): boolean {
    return existsSync(this.#file) && statSync(this.#file).size >= octets;
  }

  /**
   * Remembers a batch, for followers that know by themselves where they are: before they apply it, so that the journal
   * never lacks what they know.
   */
  remember({ events, cursor }: FeedBatch): void {
    if (events.length === 0) return;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    if (!this.#isWhole) mend(this.#file);
    this.#isWhole = true;
    this.#append({ events, cursor });
  }

  /** A follower that applies to another and remembers. */
  recording(follower: FeedFollower): FeedFollower {
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    return {
      apply: async (batch) => {
        await follower.apply(batch);
        if (batch.events.length > 0) this.#append({ events: batch.events, cursor: batch.cursor });
      },
    };
  }

  /** A whole line or nothing: what a full disk leaves of one is cut off, so that the next does not follow it. */
  #append(line: JournalLine): void {
    const descriptor = openSync(this.#file, 'a', 0o600);
    try {
      const { size } = fstatSync(descriptor);
      try {
        writeFileSync(descriptor, `${JSON.stringify(line)}\n`);
        fsyncSync(descriptor);
        this.#mark = { cursor: line.cursor, octets: fstatSync(descriptor).size };
      } catch (error) {
        ftruncateSync(descriptor, size);
        throw new PkiError('record-unavailable', 'the journal of the feed cannot be written', {
          cause: error,
        });
      }
    } finally {
      closeSync(descriptor);
    }
  }

  /** Puts the journal aside, so that following starts anew; nothing in it is lost. */
  setAside(suffix: string): void {
    this.#mark = undefined;
    if (existsSync(this.#file)) renameSync(this.#file, `${this.#file}.${suffix}`);
  }
}

/** Cuts off a last line that a crash cut short. */
function mend(file: string): void {
  if (!existsSync(file)) return;
  const descriptor = openSync(file, 'r');
  try {
    const octet = Buffer.alloc(1);
    let end = fstatSync(descriptor).size;
    while (end > 0 && readSync(descriptor, octet, 0, 1, end - 1) === 1 && octet[0] !== 0x0a) end -= 1;
    if (end < fstatSync(descriptor).size) truncateSync(file, end);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Lines of a journal from an offset on, as a stream, with the offset behind each; one that was cut short at the end is
 * left out, and with `repair` cut off.
 */
async function* readJournal(
  file: string,
  torn: 'repair' | 'ignore',
  from = 0,
): AsyncIterable<{ line: JournalLine; end: number }> {
  if (!existsSync(file)) return;
  let good = from;
  for await (const line of createInterface({
    input: createReadStream(file, { start: from }),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    const end = good + Buffer.byteLength(line) + 1;
    if (end > statSync(file).size) break;
    yield { line: JSON.parse(line) as JournalLine, end };
    good = end;
  }
  if (torn === 'repair' && good < statSync(file).size) truncateSync(file, good);
}

/** What journals hold, as a restored CA reads it. */
export interface JournalContent {
  readonly events: readonly FeedEvent[];
  /** How far they go: by incarnation of the record, then by writer. */
  readonly heads: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

export async function journalContent(file: string): Promise<JournalContent> {
  const events: FeedEvent[] = [];
  const heads = new Map<string, Map<string, number>>();
  for await (const { line } of readJournal(file, 'ignore')) {
    raise(heads, line.cursor.incarnation, Object.entries(line.cursor.positions));
    for (const event of line.events) events.push(event);
  }
  return { events, heads };
}

/** Several journals as one. */
export function mergeJournals(journals: readonly JournalContent[]): JournalContent {
  const heads = new Map<string, Map<string, number>>();
  for (const journal of journals)
    for (const [incarnation, positions] of journal.heads) raise(heads, incarnation, positions);
  return { events: journals.flatMap(({ events }) => events), heads };
}

function raise(
  heads: Map<string, Map<string, number>>,
  incarnation: string,
  positions: Iterable<readonly [string, number]>,
): void {
  const known = heads.get(incarnation) ?? new Map<string, number>();
  heads.set(incarnation, known);
  for (const [writer, position] of positions) known.set(writer, Math.max(position, known.get(writer) ?? 0));
}

/** Octets that are read at a time, from the end of a journal back. */
const tailOctets = 1_048_576;

/** The cursor of a journal's last whole line; undefined where it has none. */
export function lastCursor(file: string): FeedCursor | undefined {
  if (!existsSync(file)) return undefined;
  const descriptor = openSync(file, 'r');
  try {
    let tail = Buffer.alloc(0);
    for (let from = fstatSync(descriptor).size; from > 0; ) {
      const length = Math.min(tailOctets, from);
      from -= length;
      const chunk = Buffer.alloc(length);
      readSync(descriptor, chunk, 0, length, from);
      tail = Buffer.concat([chunk, tail]);
      const end = tail.lastIndexOf(0x0a);
      const start = end < 0 ? -1 : tail.lastIndexOf(0x0a, end - 1);
      if (end < 0 || (start < 0 && from > 0)) continue;
      return (JSON.parse(tail.toString('utf8', start + 1, end)) as JournalLine).cursor;
    }
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}
