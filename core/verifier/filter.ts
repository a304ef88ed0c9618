import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { FilterDelta } from '../filter/delta.ts';
import { decodeFilter, type FilterFile, type FilterHead, FilterTables } from '../filter/filter.ts';
import { systemClock } from '../runtime/clock.ts';
import type { IssuedCertificate } from './certificate.ts';
import { type SourceOutcome, undetermined } from './outcome.ts';
import type { Source } from './source.ts';

// Revocation filters: answers without asking.

/** A filter that cannot be used, and why. */
export class FilterRefused extends Error {
  override name = 'FilterRefused';
}

/** Of every certificate of this CA. */
const serialOctets = 17;

interface Loaded {
  readonly head: FilterHead;
  readonly tables: FilterTables;
  readonly delta: { readonly head: FilterHead; readonly changes: FilterDelta } | null;
}

export class FilterSource implements Source {
  readonly name = 'filter';
  readonly #key: KeyObject;
  readonly #skewMs: number;
  readonly #loaded = new Map<string, Loaded>();
  /** The highest sequence of each kind that was had: nothing from before it is used. */
  readonly #newest = new Map<string, number>();

  /**
   * `publicKey`: the CA's `outbox.pem`. `newest`: what that property said before a restart, so that no older file is used after it.
   */
  constructor(options: {
    readonly publicKey: string;
    readonly skewMs?: number;
    readonly newest?: Readonly<Record<string, number>>;
  }) {
    this.#key = createPublicKey(options.publicKey);
    for (const [kind, sequence] of Object.entries(options.newest ?? {})) this.#newest.set(kind, sequence);
    this.#skewMs = options.skewMs ?? 60_000;
  }

  /** The highest sequence of each kind that was had: keep it, and give it to the next one. */
  get newest(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#newest);
  }

  /**
   * Uses a base, with the delta that goes on from it, from now on. Throws `FilterRefused` where one is not signed, is older than one that was
   * had, is not to be believed any more, or the delta is of another base; then what was loaded before stays.
   */
  load(base: Uint8Array, delta: Uint8Array | null, nowMs = systemClock.wallMs()): void {
    try {
      this.#load(base, delta, nowMs);
    } catch (error) {
      if (error instanceof FilterRefused) throw error;
      throw new FilterRefused(`the file is no filter: ${(error as Error).message}`, { cause: error });
    }
  }

  #load(base: Uint8Array, delta: Uint8Array | null, nowMs: number): void {
    const file = this.#opened(base, 'base', nowMs, delta === null);
    const more = delta === null ? null : this.#opened(delta, 'delta', nowMs, true);
    const { head } = file;
    if (more && (more.head.kind !== head.kind || more.head.base !== head.sequence))
      throw new FilterRefused('the delta is of another base');
    const newest = more?.head.sequence ?? head.sequence;
    if (newest < (this.#newest.get(head.kind) ?? 0)) throw new FilterRefused('a newer one was had before');
    const loaded = {
      ...{ head, tables: new FilterTables(head, file.body) },
      delta: more && { head: more.head, changes: new FilterDelta(more.body) },
    };
    this.#newest.set(head.kind, newest);
    this.#loaded.set(head.kind, loaded);
  }

  #opened(octets: Uint8Array, type: FilterHead['type'], nowMs: number, isLast: boolean): FilterFile {
    const file = decodeFilter(octets);
    if (!verify('sha256', file.signed, this.#key, file.signature))
      throw new FilterRefused(`the ${type} is not signed by the CA`);
    if (file.head.type !== type) throw new FilterRefused(`the file is no ${type}`);
    // A base is as old as a day: its delta says how long both may be believed.
    if (isLast && Date.parse(file.head.believeUntil) < nowMs - this.#skewMs)
      throw new FilterRefused(`the ${type} may not be believed any more`);
    return file;
  }

  async check({ parsed, issuer, isSigning }: IssuedCertificate, nowMs: number): Promise<SourceOutcome> {
    const loaded = this.#loaded.get(isSigning ? 'signing' : 'authentication');
    if (!loaded) return undetermined('not-covered', 'no filter of this kind is loaded');
    const { head, tables, delta } = loaded;
    const last = delta?.head ?? head;
    if (Date.parse(last.believeUntil) < nowMs - this.#skewMs)
      return undetermined('stale', 'the filter may not be believed any more');
    if (parsed.serial.length !== serialOctets || !head.authorities.includes(issuer.keyId))
      return undetermined('not-covered', 'the filter is of another CA');
    if (parsed.notBeforeMs > Date.parse(head.covers))
      return undetermined('not-covered', 'the filter is older than the certificate');
    if (delta?.changes.isRevoked(parsed.serial) ?? tables.isRevoked(parsed.serial))
      // A filter says neither why, nor whether for good.
      return { status: 'revoked', source: 'filter', isHeld: false, reason: null, revokedAt: null };
    return {
      ...{ status: 'good', source: 'filter', knownAt: new Date(last.knownAt) },
      believeUntil: new Date(last.believeUntil),
    };
  }
}
