import { SerialCipher, serialLength } from '../../core/crypto/serial.ts';
import type { RevocationReason } from '../../core/model/revocation.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { must } from '../../core/runtime/errors.ts';
import { ClassTable } from './class-table.ts';
import { readStamp, Segment, type SegmentMemory, type Stamp, segmentLength } from './segment.ts';

export type IndexedStatus =
  | { readonly type: 'good' | 'never-issued' | 'unissued' | 'retired' }
  | { readonly type: 'revoked'; readonly revokedMs: number; readonly reason: RevocationReason | null };

/** What changes in the shape of the index. What changes within a segment needs no telling: its memory is shared. */
export type IndexUpdate =
  | { readonly type: 'authority'; readonly authority: string; readonly certificate: Bytes }
  | { readonly type: 'epoch'; readonly authority: string; readonly epoch: number; readonly key: Bytes }
  | {
      readonly type: 'segment';
      readonly authority: string;
      readonly epoch: number;
      readonly number: number;
      readonly memory: SegmentMemory;
    }
  /** Of `ClassTable`. */
  | { readonly type: 'classes'; readonly memory: SharedArrayBuffer }
  | { readonly type: 'verifier'; readonly verifier: VerifierFacts };

/** Where a certificate stands in the index. It stays valid for good. */
export interface Place {
  readonly segment: Segment;
  readonly offset: number;
}

/** Feed time, in shared memory: how far the index is known to be right. */
export type FeedTime = SharedArrayBuffer;

/** Places in it. */
export const [watermarkAt, heardAt] = [0, 1];

interface EpochSegments {
  readonly cipher: SerialCipher;
  readonly segments: Segment[];
}

/** The index as threads read it: sent each `IndexUpdate`, in order. */
export class IndexReader {
  readonly #time: Float64Array;
  readonly #clock: Clock;
  /** By authority, then by epoch: the first octet of a serial number. */
  readonly #epochs = new Map<string, EpochSegments[]>();
  readonly #certificates = new Map<string, Bytes>();
  readonly #classes = new ClassTable();

  constructor(time: FeedTime, clock: Clock) {
    this.#time = new Float64Array(time);
    this.#clock = clock;
  }

  /** How long ago it was known to be right: by the wall clock, and by the one that does not step back. */
  get lagMs(): number {
    const heardAgoMs = this.#clock.monotonicMs() - (this.#time[heardAt] ?? 0);
    return Math.max(this.#clock.wallMs() - this.watermarkMs, heardAgoMs);
  }

  /** Wall-clock milliseconds at which everything here is known to be right. */
  get watermarkMs(): number {
    return this.#time[watermarkAt] ?? 0;
  }

  /** Certificates of the authorities there are, DER by name. */
  get authorities(): ReadonlyMap<string, Bytes> {
    return this.#certificates;
  }

  update(update: IndexUpdate): void {
    if (update.type === 'verifier') return;
    if (update.type === 'classes') {
      this.#classes.use(update.memory);
      return;
    }
    const { authority } = update;
    if (update.type === 'authority') {
      this.#certificates.set(authority, update.certificate);
      return;
    }
    const epochs = this.#epochs.get(authority) ?? [];
    this.#epochs.set(authority, epochs);
    if (update.type === 'epoch') {
      epochs[update.epoch] ??= { cipher: new SerialCipher(update.epoch, update.key), segments: [] };
      return;
    }
    const segments = epochs[update.epoch]?.segments;
    const known = segments?.[update.number];
    if (known) known.use(update.memory);
    else if (segments) segments[update.number] = new Segment(update.memory, this.#classes);
  }

  /**
   * Serial octets to place: one decryption and an array look-up. `never-issued` for what no cipher of ours made;
   * `unissued` for a position of which nothing has been received.
   */
  find(authority: string, serial: Bytes): Place | 'never-issued' | 'unissued' {
    const epochs = this.#epochs.get(authority);
    const epoch = epochs?.[serial[0] ?? 0];
    // Of the epoch after the last one known: it may just have been opened.
    if (!epoch && serial.length === serialLength && serial[0] === epochs?.length) return 'unissued';
    const position = epoch?.cipher.decrypt(serial);
    if (!epoch || position === undefined) return 'never-issued';
    const segment = epoch.segments[Math.floor(position / segmentLength)];
    return segment ? { segment, offset: position % segmentLength } : 'unissued';
  }

  /** Serial octets to status. */
  lookup(authority: string, serial: Bytes): IndexedStatus {
    const place = this.find(authority, serial);
    if (typeof place === 'string') return { type: place };
    return statusOf(place.segment.stamp(place.offset));
  }
}

/** What a stamp means to a relying party: hold is revocation with its reason (RFC 6960 §2.2). */
export function statusOf(stamp: Stamp): IndexedStatus {
  const change = readStamp(stamp);
  if (typeof change === 'string') return { type: change };
  if (change.state === 'good') return { type: 'good' };
  return {
    type: 'revoked',
    revokedMs: must(change.revokedMs, 'time of a revocation'),
    reason: change.reason,
  };
}
