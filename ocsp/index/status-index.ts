import { SerialCipher } from '../../core/crypto/serial.ts';
import type { DeviceEvent, FeedBatch, FeedFollower, StatusEvent, StatusFeed } from '../../core/feed/feed.ts';
import { RestrictedClasses, type RestrictedClassesState } from '../../core/feed/restricted-classes.ts';
import type { RevokedRun } from '../../core/filter/build.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { invariant } from '../../core/runtime/errors.ts';
import { ClassTable } from './class-table.ts';
import { type FeedTime, heardAt, IndexReader, type IndexUpdate, watermarkAt } from './index-reader.ts';
import {
  code,
  readStamp,
  Segment,
  type SegmentMemory,
  segmentLength,
  stampOf,
  versionMax,
} from './segment.ts';

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
  readonly #classes = new RestrictedClasses();
  readonly #table = new ClassTable();
  #isReviewed = false;

  constructor(feed: Pick<StatusFeed, 'epochKey'>, clock: Clock) {
    this.#feed = feed;
    this.#clock = clock;
    this.#time[heardAt] = Number.NEGATIVE_INFINITY;
    this.reader = new IndexReader(this.time, clock);
    this.reader.update({ type: 'classes', memory: this.#table.memory });
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
      else if (event.type === 'device') await this.#setDevice(event);
      else if (event.type === 'device-class' || event.type === 'restriction')
        await this.#review(this.#classes.learn(event));
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
    const segment = new Segment(memory, this.#table);
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

  /** What has been received of classes and restrictions, for a snapshot. */
  get restricted(): RestrictedClassesState {
    return this.#classes.state;
  }

  /** Whether restrictions make something else of a class than when this was last asked. */
  takeReviewed(): boolean {
    const isReviewed = this.#isReviewed;
    this.#isReviewed = false;
    return isReviewed;
  }

  /** Takes over what a snapshot has of classes and restrictions. */
  async restoreRestricted(state: RestrictedClassesState): Promise<void> {
    this.#classes.restore(state);
    await this.#review(Array.from({ length: this.#classes.count }, (_, i) => i + 1));
  }

  /** Has the table say of some classes what restrictions make of them now. */
  async #review(numbers: readonly number[]): Promise<void> {
    const highest = this.#classes.count;
    if (!this.#table.hasRoomFor(highest)) {
      const memory = this.#table.grownFor(highest);
      this.#table.use(memory);
      await this.#tell({ type: 'classes', memory });
    }
    if (numbers.length > 0) this.#isReviewed = true;
    for (const number of numbers) {
      const status = this.#classes.statusOf(number);
      // Nothing has restricted it: its entry stays empty.
      if (status || this.#table.at(number)) this.#table.set(number, status);
    }
  }

  /** Says of which class a certificate's phone is; its status comes later. */
  async #setDevice({ deviceClass, version, ...key }: DeviceEvent): Promise<void> {
    const { authority, epoch, position } = key;
    const { segments } = await this.#openEpoch(authority, epoch);
    const number = Math.floor(position / segmentLength);
    const offset = position % segmentLength;
    const own = segments[number] ?? (await this.#addSegment(key, segments, number));
    if (own.segment.retired) await this.#reopen(key, own, number);
    own.notAfterMs = Math.max(own.notAfterMs, key.notAfterMs);
    if (!own.segment.hasClassOf(offset))
      await this.#replace({ authority, epoch, number }, own, own.segment.withClassOf(offset));
    const ofClass = this.#classes.numberOf(deviceClass);
    await this.#review([]);
    own.segment.setClass(offset, ofClass, version);
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
    const before = readStamp(segment.ownStamp(offset));
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
    { authority, epoch }: Pick<CertificateId, 'authority' | 'epoch'>,
    segments: OwnSegment[],
    number: number,
  ): Promise<OwnSegment> {
    const added = { segment: Segment.empty(this.#table), used: 0, notAfterMs: 0 };
    segments[number] = added;
    await this.#tell({ type: 'segment', authority, epoch, number, memory: added.segment.memory });
    return added;
  }

  /** An event for a segment that was let go of: what else was in it stays retired. */
  async #reopen({ authority, epoch }: CertificateId, own: OwnSegment, number: number): Promise<void> {
    const segment = Segment.empty(this.#table);
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
    yield { type: 'classes', memory: this.#table.memory };
    for (const verifier of this.#verifiers.values()) yield { type: 'verifier', verifier };
    for (const { authority, epoch, key, segments } of this.#epochs.values()) {
      yield { type: 'epoch', authority, epoch, key };
      for (const [number, own] of segments.entries()) {
        if (own) yield { type: 'segment', authority, epoch, number, memory: own.segment.memory };
      }
    }
  }
}
