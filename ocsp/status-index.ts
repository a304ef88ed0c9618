import type { Bytes } from '../core/bytes.ts';
import type { Clock } from '../core/clock.ts';
import type { FeedBatch, FeedFollower, StatusEvent, StatusFeed } from '../core/feed.ts';
import type { RevocationReason } from '../core/revocation.ts';
import { SerialCipher } from '../core/serial.ts';

/** One octet a certificate, at the position its serial number encrypts. */
const code = { unissued: 0, good: 1, held: 2, revoked: 3, retired: 4 } as const;

interface Detail {
  readonly version: number;
  readonly revokedMs: number | null;
  readonly reason: RevocationReason | null;
}

interface EpochIndex {
  readonly cipher: SerialCipher;
  codes: Uint8Array;
  /** Whatever is not simply issued; all others are version 1 and good. */
  readonly details: Map<number, Detail>;
}

export type IndexedStatus =
  | { readonly type: 'good' | 'never-issued' | 'retired' }
  | { readonly type: 'revoked'; readonly revokedMs: number; readonly reason: RevocationReason | null };

const initialCapacity = 4096;

/** What the responder knows: it follows the feed and nothing else. */
export class StatusIndex implements FeedFollower {
  readonly #feed: Pick<StatusFeed, 'epochKey'>;
  readonly #epochs = new Map<string, EpochIndex>();
  readonly #certificates = new Map<string, Bytes>();
  readonly #clock: Clock;
  #watermarkMs = 0;
  #heardMs = Number.NEGATIVE_INFINITY;

  constructor(feed: Pick<StatusFeed, 'epochKey'>, clock: Clock) {
    this.#feed = feed;
    this.#clock = clock;
  }

  /** How long ago it was known to be right: by the wall clock, and by the one that does not step back. */
  get lagMs(): number {
    const heardAgoMs = this.#clock.monotonicMs() - this.#heardMs;
    return Math.max(this.#clock.wallMs() - this.#watermarkMs, heardAgoMs);
  }

  /** Wall-clock milliseconds at which everything here is known to be right. */
  get watermarkMs(): number {
    return this.#watermarkMs;
  }

  /** Certificates of the authorities there are, DER by name. */
  get authorities(): ReadonlyMap<string, Bytes> {
    return this.#certificates;
  }

  async apply(batch: FeedBatch): Promise<void> {
    for (const event of batch.events) {
      if (event.type === 'status') applyStatus(await this.#openEpoch(event.authority, event.epoch), event);
      else if (event.type === 'epoch') await this.#openEpoch(event.authority, event.epoch);
      else if (event.type === 'authority')
        this.#certificates.set(event.authority, Buffer.from(event.certificate, 'base64'));
    }
    // A clock that steps back does not make what is known less recent.
    this.#watermarkMs = Math.max(this.#watermarkMs, batch.watermarkMs);
    if (batch.watermarkMs > 0) this.#heardMs = this.#clock.monotonicMs();
  }

  /** Serial octets to status: one decryption and one look-up. */
  lookup(authority: string, serial: Bytes): IndexedStatus {
    const epoch = this.#epochs.get(`${authority}:${serial[0]}`);
    const position = epoch?.cipher.decrypt(serial);
    if (!epoch || position === undefined) return { type: 'never-issued' };
    const found = epoch.codes[position] ?? code.unissued;
    if (found === code.good) return { type: 'good' };
    if (found === code.unissued) return { type: 'never-issued' };
    if (found === code.retired) return { type: 'retired' };
    const detail = epoch.details.get(position);
    return { type: 'revoked', revokedMs: detail?.revokedMs ?? 0, reason: detail?.reason ?? null };
  }

  /** Events may come in any order: whichever first speaks of an epoch opens it. */
  async #openEpoch(authority: string, epoch: number): Promise<EpochIndex> {
    const name = `${authority}:${epoch}`;
    const known = this.#epochs.get(name);
    if (known) return known;
    const cipher = new SerialCipher(epoch, await this.#feed.epochKey(authority, epoch));
    const opened = { cipher, codes: new Uint8Array(initialCapacity), details: new Map<number, Detail>() };
    this.#epochs.set(name, opened);
    return opened;
  }
}

/** Keeps what has the highest version; and, whatever a feed may say, revoked stays revoked. */
function applyStatus(epoch: EpochIndex, event: StatusEvent): void {
  const { position, version, state, revokedMs, reason } = event;
  if (position >= epoch.codes.length) epoch.codes = grown(epoch.codes, position);
  const before = epoch.codes[position] ?? code.unissued;
  const known = epoch.details.get(position)?.version ?? (before === code.unissued ? 0 : 1);
  const next = state === 'reserved' ? code.unissued : code[state];
  if (version <= known || (before === code.revoked && next < code.revoked)) return;
  epoch.codes[position] = next;
  if (version > 1 || state !== 'good') epoch.details.set(position, { version, revokedMs, reason });
}

function grown(codes: Uint8Array, position: number): Uint8Array {
  const larger = new Uint8Array(Math.max(codes.length * 2, position + 1));
  larger.set(codes);
  return larger;
}
