import type {
  Publication,
  PublicationChange,
  Publications,
  Published,
} from '../../core/model/publication.ts';

/** A build takes less: its number is of when it began, and it may be published behind one that began later. Milliseconds. */
const buildMs = 120_000;

/** What a CA node publishes, for a node that has no key of an authority: it publishes nothing of its own. */
export class RemotePublications implements Publications {
  readonly lateBy = buildMs;
  readonly #published: Published;

  constructor(published: Published) {
    this.#published = published;
  }

  isPublisher(): boolean {
    return false;
  }

  giveUp(): void {
    // It never began.
  }

  async put(_change: PublicationChange): Promise<boolean> {
    return false;
  }

  /** All of them, whatever `limit` says: many may have one number. */
  async after(change: number, _limit: number): ReturnType<Publications['after']> {
    const shards = await this.#published.above(change);
    return shards.map(({ path, number }) => ({ path, number, change: number }));
  }

  get(path: string): Promise<Publication | undefined> {
    return this.#published.get(path);
  }

  async numbers(): Promise<ReadonlyMap<string, number>> {
    return new Map((await this.#published.above(0)).map(({ path, number }) => [path, number]));
  }
}
