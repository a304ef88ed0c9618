import type { CertificateStore, Shard, ShardCommand } from '../../store/api/certificate-store.ts';

/** Places taken at once: few at first, more as they are used up; what a stop leaves unused is lost to the shard. */
const placesAtFirst = 16;
const placesMax = 512;

interface Held {
  readonly shard: Shard;
  readonly taken: number;
  left: number;
}

/** Hands out places on CRL shards, from blocks taken in the record. */
export class ShardAllocator {
  readonly #store: Pick<CertificateStore, 'leaseShard'>;
  readonly #held = new Map<string, Held>();
  readonly #taking = new Map<string, Promise<void>>();

  constructor(store: Pick<CertificateStore, 'leaseShard'>) {
    this.#store = store;
  }

  /** The shard that the next certificate of a series is to name. */
  async next(command: Omit<ShardCommand, 'places'>): Promise<Shard> {
    const { series } = command;
    for (;;) {
      const held = this.#held.get(series);
      if (held && held.left > 0) {
        held.left -= 1;
        return held.shard;
      }
      const taking = this.#taking.get(series) ?? this.#take(command, held?.taken ?? 0);
      this.#taking.set(series, taking);
      await taking;
    }
  }

  async #take(command: Omit<ShardCommand, 'places'>, before: number): Promise<void> {
    const places = Math.min(Math.max(placesAtFirst, before * 2), placesMax);
    try {
      const { shard, places: taken } = await this.#store.leaseShard({ ...command, places });
      this.#held.set(command.series, { shard, taken, left: taken });
    } finally {
      this.#taking.delete(command.series);
    }
  }
}
