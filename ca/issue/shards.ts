import type { CertificateStore, Shard, ShardCommand, ShardLease } from '../../store/api/certificate-store.ts';

/** Places taken at once: few at first, more as they are used up; what a stop leaves unused is lost to the shard. */
const placesAtFirst = 16;
const placesMax = 512;

/** A series of shards, and what makes the one of a number. */
export interface ShardSeries extends Omit<ShardCommand, 'places' | 'next'> {
  readonly open: (number: number) => Shard;
}

/** Takes places on the newest shard of a series, which is opened where the one before it is full. */
export async function leasePlaces(
  store: Pick<CertificateStore, 'leaseShard'>,
  { open, ...series }: ShardSeries,
  places: number,
): Promise<ShardLease> {
  for (let next: Shard | null = null; ; ) {
    const leased = await store.leaseShard({ ...series, places, next });
    if ('shard' in leased) return leased;
    next = open(leased.opens);
  }
}

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
  async next(of: ShardSeries): Promise<Shard> {
    const { series } = of;
    for (;;) {
      const held = this.#held.get(series);
      if (held && held.left > 0) {
        held.left -= 1;
        return held.shard;
      }
      const taking = this.#taking.get(series) ?? this.#take(of, held?.taken ?? 0);
      this.#taking.set(series, taking);
      await taking;
    }
  }

  async #take(of: ShardSeries, before: number): Promise<void> {
    const places = Math.min(Math.max(placesAtFirst, before * 2), placesMax);
    try {
      const { shard, places: taken } = await leasePlaces(this.#store, of, places);
      this.#held.set(of.series, { shard, taken, left: taken });
    } finally {
      this.#taking.delete(of.series);
    }
  }
}
