import type { Logger } from 'pino';
import type { FeedCursor, FeedFollower } from '../../core/feed/feed.ts';
import type { FeedJournal, JournalMark } from '../../core/feed/feed-journal.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSnapshot, removeSnapshot, type Snapshot, writeSnapshot } from './snapshot.ts';
import type { StatusIndex } from './status-index.ts';

/**
 * Keeps an index on disk: a snapshot now and then, and a journal of everything since. What is on disk is never believed
 * without a checksum, and never the only copy: the feed can send all of it again.
 */
export class IndexKeeper {
  readonly #index: StatusIndex;
  readonly #journal: FeedJournal;
  readonly #file: string;
  readonly #logger: Logger;
  readonly #recording: FeedFollower;
  #saved: JournalMark | undefined;
  #saving: Promise<void> | undefined;

  constructor(options: { index: StatusIndex; journal: FeedJournal; file: string; logger: Logger }) {
    this.#index = options.index;
    this.#journal = options.journal;
    this.#file = options.file;
    this.#logger = options.logger;
    this.#recording = options.journal.recording(options.index);
  }

  /** Applies to the index, then remembers. */
  get follower(): FeedFollower {
    return this.#recording;
  }

  /** Brings the index to where it was; returns the cursor to go on from, undefined where the feed must send all again. */
  async resume(): Promise<FeedCursor | undefined> {
    const snapshot = this.#usableSnapshot();
    if (!snapshot) return this.#journal.replay(this.#index);
    await snapshot.restore(this.#index);
    this.#saved = snapshot.mark;
    return this.#journal.replay(this.#index, snapshot.mark);
  }

  /**
   * Begins where nothing is on disk with another node's snapshot, and returns the cursor to go on from. `fetch` writes it to a file; false
   * where there is none, and then the feed must send all. A snapshot that is damaged is none.
   */
  async begin(fetch: (file: string) => Promise<boolean>): Promise<FeedCursor | undefined> {
    const received = `${this.#file}.received`;
    try {
      if (!(await fetch(received))) return undefined;
      const snapshot = this.#usable(received);
      if (!snapshot) return undefined;
      await snapshot.restore(this.#index);
      // Its mark is of another's journal. What ours may hold, without its begin, may be older than it or leave a gap.
      this.#journal.continueFrom(snapshot.mark.cursor);
      return snapshot.mark.cursor;
    } finally {
      removeSnapshot(received);
    }
  }

  /** Writes a snapshot, unless nothing has happened since the last. */
  save(): Promise<void> {
    this.#saving ??= this.#save().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  /** Compresses what the journal has closed, and removes what was received before then and no restart needs. */
  tidy(beforeMs: number): Promise<void> {
    return this.#journal.tidy({ beforeMs, keepFrom: this.#saved?.segment ?? 0 });
  }

  /** Ends a `tidy` that runs. */
  stopTidying(): void {
    this.#journal.stopTidying();
  }

  /** The record is another: what is on disk is put aside. */
  forget(): void {
    // The snapshot first: its mark means nothing in another journal.
    removeSnapshot(this.#file);
    this.#journal.setAside('previous');
  }

  async #save(): Promise<void> {
    const { mark } = this.#journal;
    if (!mark || (mark.octets === this.#saved?.octets && mark.segment === this.#saved.segment)) return;
    await writeSnapshot(this.#file, this.#index, mark);
    this.#saved = mark;
  }

  #usableSnapshot(): Snapshot | undefined {
    const snapshot = this.#usable(this.#file);
    if (!snapshot || this.#journal.reaches(snapshot.mark)) return snapshot;
    this.#logger.warn('the snapshot is of another journal: the index is rebuilt');
    return undefined;
  }

  #usable(file: string): Snapshot | undefined {
    try {
      return readSnapshot(file);
    } catch (error) {
      if (!(error instanceof PkiError)) throw error;
      this.#logger.warn({ reason: error.message }, 'the index is rebuilt');
      return undefined;
    }
  }
}
