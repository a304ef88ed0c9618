import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, truncateSync } from 'node:fs';
import { dirname } from 'node:path';
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
    for (const line of readJournal(this.#file, 'repair')) {
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
        if (batch.events.length === 0) return;
        const line: JournalLine = { events: batch.events, cursor: batch.cursor };
        appendFileSync(this.#file, `${JSON.stringify(line)}\n`, { mode: 0o600 });
      },
    };
  }

  /** Puts the journal aside, so that following starts anew; nothing in it is lost. */
  setAside(suffix: string): void {
    if (existsSync(this.#file)) renameSync(this.#file, `${this.#file}.${suffix}`);
  }
}

function readJournal(file: string, torn: 'repair' | 'ignore'): JournalLine[] {
  if (!existsSync(file)) return [];
  const text = readFileSync(file, 'utf8');
  const end = text.lastIndexOf('\n') + 1;
  if (end < text.length && torn === 'repair') truncateSync(file, Buffer.byteLength(text.slice(0, end)));
  return text
    .slice(0, end)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as JournalLine);
}

/** Every event of a journal, as a restored CA reads it. */
export function journalEvents(file: string): FeedEvent[] {
  return readJournal(file, 'ignore').flatMap(({ events }) => events);
}
