import {
  closeSync,
  existsSync,
  fstatSync,
  fsync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { PkiError } from '../runtime/errors.ts';
import type { FeedBatch, FeedCursor, FeedFollower } from './feed.ts';
import {
  closedSegments,
  closeSegment,
  linesOfSegment,
  openNumber,
  renameJournal,
  segmentsOf,
  type TidyOptions,
  tidySegments,
} from './journal-files.ts';

const syncFile = promisify(fsync);

/** A batch as it stands on one line of a journal. */
export type JournalLine = Pick<FeedBatch, 'events' | 'cursor' | 'from' | 'proof'>;

const lineOf = ({ events, cursor, from, proof }: FeedBatch): JournalLine => ({
  events,
  cursor,
  ...(from === undefined ? {} : { from }),
  ...(proof === undefined ? {} : { proof }),
});

/** How far a journal goes: the cursor to follow from, and where the line behind it begins. */
export interface JournalMark {
  readonly cursor: FeedCursor;
  /** Number of the segment; that of the only one where it is absent, in what an earlier version wrote. */
  readonly segment?: number;
  /** In the segment. */
  readonly octets: number;
}

/** A segment of so many octets is closed. */
const segmentOctetsDefault = 2 ** 26;

/**
 * What a follower has received, on its own disk: it goes on from there after a restart, and a CA that was restored
 * from an older backup learns from it what it has forgotten. Holds no key, and of persons nothing that is not sealed.
 *
 * One line a batch. A line that a crash cut short is cut off: the feed delivers it again. A file that has grown large is closed, and
 * another begun; `tidy` compresses and removes those (`journal-files.ts`).
 */
export class FeedJournal {
  readonly #file: string;
  readonly #segmentOctets: number;
  #mark: JournalMark | undefined;
  /** Number of the segment that is written to; 0 until it is known. */
  #segment = 0;
  readonly #tidying = new AbortController();
  /** Whether its last line is known to be whole. */
  #isWhole = false;

  constructor(
    file: string,
    { segmentOctets = segmentOctetsDefault }: { readonly segmentOctets?: number } = {},
  ) {
    this.#file = file;
    this.#segmentOctets = segmentOctets;
  }

  /** How far it goes by what was played back or written through this object; undefined for an empty journal. */
  get mark(): JournalMark | undefined {
    return this.#mark;
  }

  /**
   * Plays everything back, or what stands behind a mark, and returns the cursor to go on from; undefined for an empty
   * journal, and for one of which something is missing: all of it is to be received again then.
   */
  async replay(follower: FeedFollower, from?: JournalMark): Promise<FeedCursor | undefined> {
    mend(this.#file);
    this.#isWhole = true;
    this.#mark = from;
    const first = from?.segment ?? 1;
    const segments = segmentsOf(this.#file).filter(({ number }) => number >= first);
    // One that is missing, in front or between, would be half of what happened.
    if (segments.some(({ number }, i) => number !== first + i)) return this.#incomplete();
    for (const segment of segments) {
      const { number } = segment;
      for await (const { text, end } of linesOfSegment(segment, from && number === first ? from.octets : 0)) {
        const line = parsed(text, segment.path);
        if (!follows(line, this.#mark?.cursor)) return this.#incomplete();
        await follower.apply({ ...line, watermarkMs: 0 });
        this.#mark = { cursor: line.cursor, segment: number, octets: end };
      }
    }
    return this.#mark?.cursor;
  }

  /** Nothing of it can be relied on: the feed sends all again. */
  #incomplete(): undefined {
    this.#mark = undefined;
  }

  /** What follows is received from behind a cursor that is not of this journal. */
  continueFrom(cursor: FeedCursor): void {
    mend(this.#file);
    this.#isWhole = true;
    const octets = existsSync(this.#file) ? statSync(this.#file).size : 0;
    this.#mark = { cursor, segment: openNumber(this.#file), octets };
  }

  /** Whether a mark can be of this journal, and all behind it is there. */
  reaches({ segment = 1, octets }: JournalMark): boolean {
    const segments = segmentsOf(this.#file);
    const found = segments.find(({ number }) => number === segment);
    if (!found) return octets === 0 && segment === openNumber(this.#file);
    return found.path !== this.#file || statSync(this.#file).size >= octets;
  }

  /**
   * Remembers a batch, for followers that know by themselves where they are: before they apply it, so that the journal
   * never lacks what they know.
   */
  async remember(batch: FeedBatch): Promise<void> {
    if (batch.events.length === 0) return;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    if (!this.#isWhole) mend(this.#file);
    this.#isWhole = true;
    await this.#append(lineOf(batch));
  }

  /** A follower that applies to another and remembers. */
  recording(follower: FeedFollower): FeedFollower {
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    return {
      apply: async (batch) => {
        await follower.apply(batch);
        if (batch.events.length > 0) await this.#append(lineOf(batch));
      },
    };
  }

  /** Compresses closed segments, and removes those in front of `keepFrom` that were written before `beforeMs`. */
  tidy(options: Omit<TidyOptions, 'signal'>): Promise<void> {
    return tidySegments(this.#file, { ...options, signal: this.#tidying.signal });
  }

  /** Ends a `tidy` that runs, and those to come. */
  stopTidying(): void {
    this.#tidying.abort();
  }

  /**
   * A whole line or nothing: what a full disk leaves of one is cut off, so that the next does not follow it. One at a time: a feed
   * waits for its follower.
   */
  async #append(line: JournalLine): Promise<void> {
    this.#segment ||= openNumber(this.#file);
    const descriptor = openSync(this.#file, 'a', 0o600);
    let octets = 0;
    try {
      const { size } = fstatSync(descriptor);
      try {
        writeFileSync(descriptor, `${JSON.stringify(line)}\n`);
        await syncFile(descriptor);
        octets = fstatSync(descriptor).size;
        this.#mark = { cursor: line.cursor, segment: this.#segment, octets };
      } catch (error) {
        ftruncateSync(descriptor, size);
        throw new PkiError('record-unavailable', 'the journal of the feed cannot be written', {
          cause: error,
        });
      }
    } finally {
      closeSync(descriptor);
    }
    if (octets < this.#segmentOctets) return;
    // Looked up again, also where closing it fails half way.
    this.#segment = 0;
    closeSegment(this.#file);
  }

  /** Renames the journal, so that following starts from the beginning; its content is kept. */
  setAside(suffix: string): void {
    this.#mark = undefined;
    this.#segment = 0;
    // None that was set aside before is overwritten.
    let aside = `${this.#file}.${suffix}`;
    for (let n = 2; segmentsOf(aside).length > 0; n++) aside = `${this.#file}.${suffix}-${n}`;
    renameJournal(this.#file, aside);
  }
}

/** Whether a line begins where what came before has ended, or earlier: a feed may send again what it has sent. */
function follows({ from, cursor }: JournalLine, before: FeedCursor | undefined): boolean {
  const known = before?.incarnation === cursor.incarnation ? before.positions : {};
  return Object.entries(from ?? {}).every(([writer, position]) => position <= (known[writer] ?? 0));
}

/** The cursor of a journal's last whole line; undefined where it has none. */
export function lastCursor(file: string): FeedCursor | undefined {
  const inOpen = existsSync(file) ? lastLine(file) : undefined;
  if (inOpen !== undefined) return parsed(inOpen, file).cursor;
  const closed = closedSegments(file).at(-1);
  if (!closed) return undefined;
  const inClosed = closed.isCompressed
    ? gunzipSync(readFileSync(closed.path)).toString('utf8').trimEnd().split('\n').at(-1)
    : lastLine(closed.path);
  return inClosed === undefined ? undefined : parsed(inClosed, closed.path).cursor;
}

/** Octets that are read at a time, from the end of a journal back. */
const tailOctets = 1_048_576;

/** The last whole line of a file. */
function lastLine(file: string): string | undefined {
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
      return tail.toString('utf8', start + 1, end);
    }
    return undefined;
  } finally {
    closeSync(descriptor);
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

/** A line of a journal. Throws `bad-request` for one that is no JSON. */
export function parsed(line: string, file: string): JournalLine {
  try {
    return JSON.parse(line) as JournalLine;
  } catch (error) {
    throw new PkiError('bad-request', `${file}: a line is no JSON: it was altered`, { cause: error });
  }
}
