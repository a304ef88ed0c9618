import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { CertificateStore, Lease } from '../../store/api/certificate-store.ts';

/** Positions leased at once, more as they are used up: what a stop leaves unused costs two bits of a responder's memory. */
const leaseAtFirst = 1024;
const leaseMax = 16_384;

/** Hands out an authority's positions, each once, from blocks leased in the record. */
export class PositionAllocator {
  readonly #store: Pick<CertificateStore, 'leasePositions'>;
  readonly #authority: string;
  #lease: Lease = { epoch: 0, first: 0, end: 0 };
  #next = 0;
  #size = leaseAtFirst;
  #leasing: Promise<void> | undefined;

  constructor(store: Pick<CertificateStore, 'leasePositions'>, authority: string) {
    this.#store = store;
    this.#authority = authority;
  }

  async next(): Promise<CertificateId> {
    while (this.#next >= this.#lease.end) {
      this.#leasing ??= this.#renew().finally(() => {
        this.#leasing = undefined;
      });
      await this.#leasing;
    }
    return { authority: this.#authority, epoch: this.#lease.epoch, position: this.#next++ };
  }

  async #renew(): Promise<void> {
    this.#lease = await this.#store.leasePositions(this.#authority, this.#size);
    this.#size = Math.min(this.#size * 2, leaseMax);
    this.#next = this.#lease.first;
  }
}
