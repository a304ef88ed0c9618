import type { Bytes } from '../../core/runtime/bytes.ts';

// Who looked holders up: in a chain of its own, next to the record.

/** Who looked at whom. */
export interface Access {
  readonly atMs: number;
  /** null: what was asked for is of no holder, or there was no such thing. */
  readonly holderId: string | null;
  /** As in `Actor`. */
  readonly client: string;
  readonly kind: string;
  readonly role: string;
  /** The desks that the client acts for, or the municipalities that it is bound to. */
  readonly actsFor: readonly string[];
  /** For which purpose, as the caller says; null in development, where it need not. */
  readonly purpose: string | null;
  /** Method and route, without what is personal. */
  readonly route: string;
  /** Whether it was answered. */
  readonly found: boolean;
  /** The first of its request, by which requests are counted: one that lists may look up thousands. */
  readonly isFirst: boolean;
}

/** An access with its place in the chain. */
export interface RecordedAccess extends Access {
  readonly sequence: number;
}

/** Accesses of one client in a day, by one purpose and route: the latest, and how many. */
export interface GroupedAccess extends RecordedAccess {
  readonly times: number;
}

/** What a relying party asked, sealed for the holder. */
export interface SealedQuery {
  /** Keyed hash of the holder, of a year. */
  readonly tag: Bytes;
  /** Keyed hash of the content: the same is kept once. */
  readonly entry: Bytes;
  readonly sealed: Bytes;
  readonly expiresMs: number;
}

/** Who looked at whom. Where something cannot be written, it rejects with `record-unavailable`, and with `overloaded` where too much waits. */
export interface AccessStore {
  /** Number of the last access that is on disk, as far as is known. */
  readonly sequence: number;
  /** Resolves once all of it is on disk. */
  note(accesses: readonly Access[], queries?: readonly SealedQuery[]): Promise<void>;
  /** Counts a look-up of a client; `rate-exceeded` where it has looked up as many on this day in Japan as it may. */
  admit(client: string, max: number, nowMs: number): Promise<void>;
  /** Accesses to a holder that were answered, the latest first, and what was sealed under some tags. */
  of(
    holderId: string,
    tags: readonly Bytes[],
  ): Promise<{ readonly accesses: readonly GroupedAccess[]; readonly queries: readonly Bytes[] }>;
  /** Removes some of what is older than it is to be kept. Whether there may be more. */
  forget(beforeMs: number, nowMs: number): Promise<boolean>;
  /** Verifies the next part of the chain; what is wrong, in words. */
  verify(): Promise<string | undefined>;
  close(): Promise<void>;
}
