import type { Logger } from 'pino';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { deltaPath } from '../encode/names.ts';
import type { Shard } from '../entries/entry-store.ts';
import type { PublishedCrl, PublishedFolder, PublishedShard } from './published.ts';

/** What is published as well as CRLs: CA certificates, and the index. What cannot be published now is tried again. */
export class AuxiliaryFiles {
  readonly #folder: PublishedFolder;
  readonly #logger: Logger;
  /** Not published yet; the newest of each. */
  readonly #waiting = new Map<string, Bytes>();
  #placing: Promise<void> | undefined;

  constructor(folder: PublishedFolder, logger: Logger) {
    this.#folder = folder;
    this.#logger = logger;
  }

  place(path: string, octets: Bytes): void {
    this.#waiting.set(path, octets);
    this.retry();
  }

  /** Goes on with what has not been published; called now and then. */
  retry(): void {
    if (this.#waiting.size === 0) return;
    this.#placing ??= this.#placeAll().finally(() => {
      this.#placing = undefined;
    });
  }

  /** Resolves once nothing is under way. */
  async settled(): Promise<void> {
    await this.#placing;
  }

  async #placeAll(): Promise<void> {
    for (const [path, octets] of this.#waiting) {
      try {
        await this.#folder.place(path, octets);
      } catch (error) {
        this.#logger.error({ path, reason: (error as Error).message }, 'a file cannot be published');
        return;
      }
      // Unless there is something newer by now.
      if (this.#waiting.get(path) === octets) this.#waiting.delete(path);
    }
  }
}

/** The index of shards, for those who fetch them all: JSON. */
export function indexOf(
  shards: Iterable<{ readonly shard: Shard; readonly published: PublishedShard | undefined }>,
): Bytes {
  const entries = [...shards].flatMap(({ shard, published }) =>
    published ? [indexed(shard, published)] : [],
  );
  return Buffer.from(JSON.stringify({ shards: entries }));
}

/** A shard as the index shows it: addresses relative to the publisher's, times as in the CRLs. */
function indexed({ shard, authority }: Shard, { path, complete, delta }: PublishedShard): object {
  const entryOf = ({ number, thisUpdateMs, nextUpdateMs, octets }: PublishedCrl, at: string): object => ({
    path: `/${at}`,
    number,
    thisUpdate: new Date(thisUpdateMs).toISOString(),
    nextUpdate: new Date(nextUpdateMs).toISOString(),
    octets,
  });
  return {
    shard,
    authority,
    complete: entryOf(complete, path),
    ...(delta ? { delta: { ...entryOf(delta, deltaPath(path)), baseNumber: delta.baseNumber } } : {}),
  };
}
