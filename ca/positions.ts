import type { CertificateStore, Lease } from '../core/certificate-store.ts';
import type { CertificateKey } from '../core/feed.ts';

/** Positions leased at once: what a crash leaves unused costs a byte of a responder's memory each. */
const leaseSize = 1024;

/** Hands out an authority's positions, each once, from blocks leased in the record. */
export class PositionAllocator {
  readonly #store: Pick<CertificateStore, 'leasePositions'>;
  readonly #authority: string;
  #lease: Lease = { epoch: 0, first: 0, end: 0 };
  #next = 0;
  #leasing: Promise<void> | undefined;

  constructor(store: Pick<CertificateStore, 'leasePositions'>, authority: string) {
    this.#store = store;
    this.#authority = authority;
  }

  async next(): Promise<CertificateKey> {
    while (this.#next >= this.#lease.end) {
      this.#leasing ??= this.#renew().finally(() => {
        this.#leasing = undefined;
      });
      await this.#leasing;
    }
    return { authority: this.#authority, epoch: this.#lease.epoch, position: this.#next++ };
  }

  async #renew(): Promise<void> {
    this.#lease = await this.#store.leasePositions(this.#authority, leaseSize);
    this.#next = this.#lease.first;
  }
}
