import {
  closeSync,
  createReadStream,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
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

/**
 * What a follower has heard, on its own disk: it goes on from there after a restart, and a CA that was restored
 * from an older backup learns from it what it has forgotten. Holds no personal data and no key.
 *
 * One line a batch. A line that a crash cut short is cut off: the feed delivers it again.
 */
export class FeedJournal {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** Plays everything back, and returns the cursor to go on from; undefined for an empty journal. */
  async replay(follower: FeedFollower): Promise<FeedCursor | undefined> {
    let cursor: FeedCursor | undefined;
    for await (const line of readJournal(this.#file, 'repair')) {
      await follower.apply({ ...line, watermarkMs: 0 });
      cursor = line.cursor;
    }
    return cursor;
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
    if (existsSync(this.#file)) renameSync(this.#file, `${this.#file}.${suffix}`);
  }
}

/** Lines of a journal, as a stream; one that was cut short at the end is left out, and with `repair` cut off. */
async function* readJournal(file: string, torn: 'repair' | 'ignore'): AsyncIterable<JournalLine> {
  if (!existsSync(file)) return;
  let good = 0;
  for await (const line of createInterface({
    input: createReadStream(file),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    const end = good + Buffer.byteLength(line) + 1;
    if (end > statSync(file).size) break;
    yield JSON.parse(line) as JournalLine;
    good = end;
  }
  if (torn === 'repair' && good < statSync(file).size) truncateSync(file, good);
}

/** Every event of a journal and the records they are of, as a restored CA reads it. */
export async function journalContent(file: string): Promise<{ events: FeedEvent[]; incarnations: string[] }> {
  const events: FeedEvent[] = [];
  const incarnations = new Set<string>();
  for await (const line of readJournal(file, 'ignore')) {
    incarnations.add(line.cursor.incarnation);
    for (const event of line.events) events.push(event);
  }
  return { events, incarnations: [...incarnations] };
}
