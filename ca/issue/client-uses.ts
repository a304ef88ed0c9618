import type { ClientStore } from '../../store/api/client-store.ts';

/** Clients that are remembered between two writings: there are never so many at once. */
const usesMax = 10_000;

/** When clients last acted: remembered, and written down now and then, so that no request waits for it. */
export class ClientUses {
  readonly #store: Pick<ClientStore, 'noteUses'>;
  #uses = new Map<string, number>();

  constructor(store: Pick<ClientStore, 'noteUses'>) {
    this.#store = store;
  }

  note(fingerprint: string, nowMs: number): void {
    if (this.#uses.size < usesMax || this.#uses.has(fingerprint)) this.#uses.set(fingerprint, nowMs);
  }

  /** Writes down what was noted; what cannot be written now is noted again. */
  async write(): Promise<void> {
    const uses = this.#uses;
    this.#uses = new Map();
    try {
      await this.#store.noteUses(uses);
    } catch (error) {
      for (const [fingerprint, ms] of uses) if (!this.#uses.has(fingerprint)) this.note(fingerprint, ms);
      throw error;
    }
  }
}
