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

/** Every event of a journal and the records they are of, as a restored CA reads it. */
export async function journalContent(file: string): Promise<{ events: FeedEvent[]; incarnations: string[] }> {
  const events: FeedEvent[] = [];
  const incarnations = new Set<string>();
  for await (const { line } of readJournal(file, 'ignore')) {
    incarnations.add(line.cursor.incarnation);
    for (const event of line.events) events.push(event);
  }
  return { events, incarnations: [...incarnations] };
}
