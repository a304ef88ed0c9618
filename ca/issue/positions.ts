import { randomFillSync } from 'node:crypto';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { CertificateStore, Lease } from '../../store/api/certificate-store.ts';

/** Positions leased at once, more as they are used up: what a stop leaves unused costs two bits of a responder's memory. */
const leaseAtFirst = 1024;
const leaseMax = 16_384;

/**
 * Hands out an authority's positions, each once, from blocks leased in the record, and within a block in random order: an OCSP or CRL node
 * knows positions, and must not learn from those of two authorities which certificates were issued together.
 */
export class PositionAllocator {
  readonly #store: Pick<CertificateStore, 'leasePositions'>;
  readonly #authority: string;
  #epoch = 0;
  /** The positions of the block, in random order. */
  #positions = new Float64Array(0);
  #left = 0;
  #size = leaseAtFirst;
  #leasing: Promise<void> | undefined;

  constructor(store: Pick<CertificateStore, 'leasePositions'>, authority: string) {
    this.#store = store;
    this.#authority = authority;
  }

  async next(): Promise<CertificateId> {
    while (this.#left === 0) {
      this.#leasing ??= this.#renew().finally(() => {
        this.#leasing = undefined;
      });
      await this.#leasing;
    }
    this.#left -= 1;
    return {
      authority: this.#authority,
      epoch: this.#epoch,
      position: this.#positions[this.#left] ?? 0,
    };
  }

  async #renew(): Promise<void> {
    const { epoch, first, end }: Lease = await this.#store.leasePositions(this.#authority, this.#size);
    this.#size = Math.min(this.#size * 2, leaseMax);
    this.#epoch = epoch;
    this.#positions = shuffled(first, end);
    this.#left = end - first;
  }
}

/** The numbers from `first` to before `end` in random order (Fisher and Yates). */
function shuffled(first: number, end: number): Float64Array<ArrayBuffer> {
  const numbers = Float64Array.from({ length: end - first }, (_, i) => first + i);
  const chances = randomFillSync(new Uint32Array(numbers.length));
  for (let i = numbers.length - 1; i > 0; i--) {
    const j = (chances[i] ?? 0) % (i + 1);
    const taken = numbers[i] ?? 0;
    numbers[i] = numbers[j] ?? 0;
    numbers[j] = taken;
  }
  return numbers;
}
