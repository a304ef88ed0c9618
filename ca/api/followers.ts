/** A follower as it is connected. */
export interface ConnectedFollower {
  /** Fingerprint of the certificate that it shows. */
  readonly fingerprint: string;
  /** When it connected, wall-clock milliseconds. */
  readonly sinceMs: number;
  /** Up to when it has been sent everything, wall-clock milliseconds; 0 before it has caught up. */
  knownMs: number;
}

/** OCSP and CRL nodes that follow this node now: at most as many as there may be connections. */
export class Followers {
  readonly #connected = new Set<ConnectedFollower>();

  /** Returns what is kept up to date while it is connected, and how to forget it. */
  connected(fingerprint: string, sinceMs: number): { readonly follower: ConnectedFollower; end(): void } {
    const follower = { fingerprint, sinceMs, knownMs: 0 };
    this.#connected.add(follower);
    return { follower, end: () => void this.#connected.delete(follower) };
  }

  get all(): readonly Readonly<ConnectedFollower>[] {
    return [...this.#connected];
  }
}
