import { SerialCipher, serialLength } from '../../core/crypto/serial.ts';
import type { FeedBatch, FeedFollower, StatusEvent, StatusFeed } from '../../core/feed/feed.ts';
import type { RevokedRun } from '../../core/filter/build.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { RevocationReason } from '../../core/model/revocation.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { invariant, must } from '../../core/runtime/errors.ts';
import {
  code,
  readStamp,
  Segment,
  type SegmentMemory,
  type Stamp,
  segmentLength,
  stampOf,
  versionMax,
} from './segment.ts';

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
  | { readonly type: 'verifier'; readonly verifier: VerifierFacts };

/** Where a certificate stands in the index. It stays valid for good. */
export interface Place {
  readonly segment: Segment;
  readonly offset: number;
}

/** Feed time, in shared memory: how far the index is known to be right. */
export type FeedTime = SharedArrayBuffer;

const [watermarkAt, heardAt] = [0, 1];

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
    else if (segments) segments[update.number] = new Segment(update.memory);
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

/** A segment and what only its writer needs to know. */
interface OwnSegment {
  readonly segment: Segment;
  /** Entries of its table in use. */
  used: number;
  /** When the last of its certificates ends. */
  notAfterMs: number;
}

interface OwnEpoch {
  readonly authority: string;
  readonly epoch: number;
  readonly key: Bytes;
  readonly cipher: SerialCipher;
  readonly segments: OwnSegment[];
}

/** What a snapshot keeps of a segment besides its memory. */
export interface SegmentState {
  readonly authority: string;
  readonly epoch: number;
  readonly number: number;
  readonly notAfterMs: number;
  readonly memory: SegmentMemory;
}

/** Receives updates of the index; the writer waits for it before it relies on them. */
export type IndexListener = (update: IndexUpdate) => Promise<void>;

/**
 * The writer's side of the index: follows the feed and nothing else. One thread owns it; others read by the memory
 * they receive. `apply` resolves when every listener sees what the batch says.
 */
export class StatusIndex implements FeedFollower {
  readonly time: FeedTime = new SharedArrayBuffer(16);
  readonly reader: IndexReader;
  readonly #feed: Pick<StatusFeed, 'epochKey'>;
  readonly #clock: Clock;
  readonly #time = new Float64Array(this.time);
  readonly #epochs = new Map<string, OwnEpoch>();
  readonly #verifiers = new Map<string, VerifierFacts>();
  readonly #listeners = new Set<IndexListener>();

  constructor(feed: Pick<StatusFeed, 'epochKey'>, clock: Clock) {
    this.#feed = feed;
    this.#clock = clock;
    this.#time[heardAt] = Number.NEGATIVE_INFINITY;
    this.reader = new IndexReader(this.time, clock);
  }

  /** Sends a listener everything there is, and from then on everything new. Returns how to end that. */
  async subscribe(listener: IndexListener): Promise<() => void> {
    this.#listeners.add(listener);
    await Promise.all([...this.#everything()].map(listener));
    return () => this.#listeners.delete(listener);
  }

  async apply(batch: FeedBatch): Promise<void> {
    for (const event of batch.events) {
      if (event.type === 'status') await this.#applyStatus(event);
      else if (event.type === 'epoch') await this.#openEpoch(event.authority, event.epoch);
      else if (event.type === 'authority') await this.setAuthority(event.authority, event.certificate);
      else if (event.type === 'verifier') await this.setVerifier(event);
    }
    // Of a batch that is cut short nothing is known beyond its events.
    if (batch.watermarkMs === 0) return;
    this.#time[watermarkAt] = batch.watermarkMs;
    this.#time[heardAt] = this.#clock.monotonicMs();
  }

  /** `certificate` is base64 of DER, as the feed has it. */
  async setAuthority(authority: string, certificate: string): Promise<void> {
    await this.#tell({ type: 'authority', authority, certificate: Buffer.from(certificate, 'base64') });
  }

  /** Keeps what has the highest version. */
  async setVerifier({ type: _, ...verifier }: VerifierFacts & { readonly type?: 'verifier' }): Promise<void> {
    const before = this.#verifiers.get(verifier.verifierId);
    if (before && before.version > verifier.version) return;
    this.#verifiers.set(verifier.verifierId, verifier);
    await this.#tell({ type: 'verifier', verifier });
  }

  /** The register of verifiers, as far as it has been received. */
  get verifiers(): VerifierFacts[] {
    return [...this.#verifiers.values()];
  }

  /** The certificates last issued under each epoch, at most so many of each. */
  newest(count: number): CertificateId[] {
    const found: CertificateId[] = [];
    for (const { authority, epoch, segments } of this.#epochs.values()) {
      let position = segments.length * segmentLength;
      for (let wanted = count; wanted > 0 && position > 0; ) {
        position -= 1;
        const segment = segments[Math.floor(position / segmentLength)]?.segment;
        const stamp = segment?.stamp(position % segmentLength) ?? stampOf.unissued;
        if (stamp === stampOf.unissued || stamp === stampOf.retired) continue;
        found.push({ authority, epoch, position });
        wanted -= 1;
      }
    }
    return found;
  }

  serialOf({ authority, epoch, position }: CertificateId): Bytes {
    const known = this.#epochs.get(`${authority}:${epoch}`);
    invariant(known, `epoch ${epoch} of ${authority} is known`);
    return known.cipher.encrypt(position);
  }

  /**
   * Runs of positions of all epochs of some authorities, each a segment: what is revoked or held in it. One segment more than there is, of
   * each epoch: its first certificates may be on their way. Other work has its turn between two.
   */
  async *revokedRuns(isWanted: (authority: string) => boolean): AsyncIterable<RevokedRun> {
    for (const { authority, epoch, key, segments } of this.#epochs.values()) {
      if (!isWanted(authority)) continue;
      for (let number = 0; number <= segments.length; number += 1) {
        const own = segments[number];
        if (own?.segment.retired) continue;
        const revoked = own?.segment.revokedBits ?? new Uint8Array(new SharedArrayBuffer(segmentLength / 8));
        yield { authority, epoch, key, first: number * segmentLength, count: segmentLength, revoked };
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  /** The state of every segment, for a snapshot. */
  get segments(): SegmentState[] {
    return [...this.#epochs.values()].flatMap(({ authority, epoch, segments }) =>
      segments.flatMap(({ segment, notAfterMs }, number) =>
        segment ? [{ authority, epoch, number, notAfterMs, memory: segment.memory }] : [],
      ),
    );
  }

  /** Takes a segment over from a snapshot. */
  async restore({ authority, epoch, number, notAfterMs, memory }: SegmentState): Promise<void> {
    const { segments } = await this.#openEpoch(authority, epoch);
    const segment = new Segment(memory);
    segments[number] = { segment, notAfterMs, used: segment.countChanges() };
    await this.#tell({ type: 'segment', authority, epoch, number, memory });
  }

  /** Lets go of segments whose certificates have all ended before `cutoffMs`; of an epoch's last, which may grow, never. */
  async retire(cutoffMs: number): Promise<void> {
    for (const { authority, epoch, segments } of this.#epochs.values()) {
      for (const [number, own] of segments.slice(0, -1).entries()) {
        if (!own || own.segment.retired || own.notAfterMs >= cutoffMs) continue;
        await this.#replace({ authority, epoch, number }, own, Segment.nothing);
        own.used = 0;
      }
    }
  }

  /** Keeps what has the highest version; and, whatever a feed may say, revoked stays revoked. */
  async #applyStatus(event: StatusEvent): Promise<void> {
    const { segments } =
      this.#epochs.get(`${event.authority}:${event.epoch}`) ??
      (await this.#openEpoch(event.authority, event.epoch));
    const number = Math.floor(event.position / segmentLength);
    const offset = event.position % segmentLength;
    const own = segments[number] ?? (await this.#addSegment(event, segments, number));
    if (event.state === 'reserved') return;
    own.notAfterMs = Math.max(own.notAfterMs, event.notAfterMs);
    if (own.segment.retired) await this.#reopen(event, own, number);
    const { segment } = own;
    if (event.state === 'retired') return segment.setCode(offset, code.retired);
    const before = readStamp(segment.stamp(offset));
    const known = typeof before === 'string' ? 0 : before.version;
    const wasRevoked = typeof before !== 'string' && before.state === 'revoked';
    if (wasRevoked && event.state !== 'revoked') return;
    // A restored record restarts its versions: a revocation is applied whatever its version.
    const isNews = event.state === 'revoked' && !wasRevoked;
    if (event.version <= known && known < versionMax && !isNews) return;
    if (event.version === 1 && event.state === 'good') return segment.setCode(offset, code.good);
    if (segment.isFull(own.used)) {
      const { authority, epoch } = event;
      await this.#replace({ authority, epoch, number }, own, segment.grown());
    }
    const { state, revokedMs, reason } = event;
    const version = Math.max(event.version, known);
    if (segment.setChange(offset, { state, version, revokedMs, reason })) own.used += 1;
  }

  /** Events may come in any order: whichever first speaks of an epoch opens it. */
  async #openEpoch(authority: string, epoch: number): Promise<OwnEpoch> {
    const name = `${authority}:${epoch}`;
    const known = this.#epochs.get(name);
    if (known) return known;
    const key = await this.#feed.epochKey(authority, epoch);
    const cipher = new SerialCipher(epoch, key);
    const opened: OwnEpoch = { authority, epoch, key, cipher, segments: [] };
    this.#epochs.set(name, opened);
    await this.#tell({ type: 'epoch', authority, epoch, key });
    return opened;
  }

  async #addSegment(
    { authority, epoch }: StatusEvent,
    segments: OwnSegment[],
    number: number,
  ): Promise<OwnSegment> {
    const added = { segment: Segment.empty(), used: 0, notAfterMs: 0 };
    segments[number] = added;
    await this.#tell({ type: 'segment', authority, epoch, number, memory: added.segment.memory });
    return added;
  }

  /** An event for a segment that was let go of: what else was in it stays retired. */
  async #reopen({ authority, epoch }: StatusEvent, own: OwnSegment, number: number): Promise<void> {
    const segment = Segment.empty();
    segment.fill(code.retired);
    await this.#replace({ authority, epoch, number }, own, segment.memory);
  }

  /** Other memory for a segment. It is written to only once every listener reads from it. */
  async #replace(
    at: { readonly authority: string; readonly epoch: number; readonly number: number },
    own: OwnSegment,
    memory: SegmentMemory,
  ): Promise<void> {
    own.segment.use(memory);
    await this.#tell({ type: 'segment', ...at, memory });
  }

  async #tell(update: IndexUpdate): Promise<void> {
    this.reader.update(update);
    if (this.#listeners.size > 0) await Promise.all([...this.#listeners].map((tell) => tell(update)));
  }

  *#everything(): Iterable<IndexUpdate> {
    for (const [authority, certificate] of this.reader.authorities) {
      yield { type: 'authority', authority, certificate };
    }
    for (const verifier of this.#verifiers.values()) yield { type: 'verifier', verifier };
    for (const { authority, epoch, key, segments } of this.#epochs.values()) {
      yield { type: 'epoch', authority, epoch, key };
      for (const [number, own] of segments.entries()) {
        if (own) yield { type: 'segment', authority, epoch, number, memory: own.segment.memory };
      }
    }
  }
}
