import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { SerialCipher, serialLength } from '../../core/crypto/serial.ts';
import type { DeviceClass } from '../../core/model/device.ts';
import {
  type ClassStatus,
  classStatus,
  effectiveStatus,
  isAboutClass,
  type RestrictionFacts,
} from '../../core/model/restriction.ts';
import { goodStatus, type RecordedStatus } from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { decodeBucket, encodeBucket, nameOf, type StoredEntry } from '../encode/bucket.ts';
import { encodeCrlEntry } from '../encode/encode.ts';
import { latestRevocation } from '../encode/entries.ts';
import { decodePhones, type StoredPhone } from '../encode/phones.ts';
import { rememberedMs } from './phone-store.ts';

/** The key of an epoch, under which serial numbers are made. */
export interface EpochKey {
  readonly epoch: number;
  readonly key: Bytes;
}

/** What an entry says besides its certificate. */
type Says = Omit<Parameters<typeof encodeCrlEntry>[0], 'serial'>;

/** What restrictions make of a class: undefined where none ever was about it. */
type Restricted =
  | { readonly status: ClassStatus | undefined; readonly heldMs: number; readonly held: Says }
  | undefined;

interface Wanted {
  readonly phone: StoredPhone;
  readonly state: StoredEntry['state'];
  readonly says: Says;
}

/** Works the entries of phones out, for a thread that builds CRLs: of its own status, and of what restricts its class. */
export class RestrictedEntries {
  readonly #facts: StatementSync;
  readonly #restrictionRows: StatementSync;
  readonly #ciphers = new Map<string, SerialCipher>();
  readonly #classes = new Map<number, Restricted>();
  #text = '';
  #restrictions: readonly RestrictionFacts[] = [];

  constructor(database: DatabaseSync) {
    this.#facts = database.prepare('SELECT facts FROM deviceClass WHERE number = ?');
    this.#restrictionRows = database.prepare('SELECT facts FROM restriction ORDER BY restrictionId');
  }

  /** A bucket as it would be if each phone's certificate had been restricted by itself. Within one transaction. */
  merged(bucket: Bytes | undefined, phones: Bytes | undefined, keys: readonly EpochKey[]): Bytes | undefined {
    if (!phones) return bucket;
    if (this.#restrictions.length === 0) return bucket;
    const items = new Map((bucket ? decodeBucket(bucket) : []).map((item) => [nameOf(item), item]));
    const wanted = decodePhones(phones).flatMap(
      (phone) => this.#wantedOf(phone, items.get(nameOf(phone))) ?? [],
    );
    if (wanted.length === 0) return bucket;
    for (const [epoch, all] of Map.groupBy(wanted, ({ phone }) => phone.epoch)) {
      const serials = this.#cipher(epoch, keys).encryptAll(all.map(({ phone }) => phone.position));
      for (const [i, { phone, state, says }] of all.entries()) {
        const serial = serials.subarray(i * serialLength, (i + 1) * serialLength);
        const { position, notAfterMs } = phone;
        items.set(nameOf(phone), {
          epoch,
          position,
          version: 0,
          state,
          notAfterMs,
          entry: entryOf(serial, says),
        });
      }
    }
    return encodeBucket(items.values());
  }

  /** What is to be listed of a phone's certificate for its class, or why it is listed no longer; undefined where its own entry says it. */
  #wantedOf(phone: StoredPhone, before: StoredEntry | undefined): Wanted | undefined {
    const restricted = this.#restricted(phone.classNumber);
    // One that ended before any of them was never restricted.
    if (!restricted || phone.notAfterMs < restricted.heldMs) return undefined;
    if (before?.state === 'revoked' || before?.state === 'ended') return undefined;
    const own = ownStatus(before);
    const effective = effectiveStatus(own, restricted.status, phone.notAfterMs);
    // Why it may leave a CRL that lists it still.
    if (effective === own) return before ? undefined : { phone, state: 'released', says: restricted.held };
    const { reason, revokedMs, invalidityMs } = effective;
    const state = effective.state === 'held' ? 'held' : 'revoked';
    return revokedMs === null ? undefined : { phone, state, says: { reason, revokedMs, invalidityMs } };
  }

  /** Takes the restrictions as they are now. What was worked out before is forgotten where they are others. */
  begin(nowMs: number): void {
    const facts = this.#restrictionRows.all().map((row) => JSON.parse(String(row.facts)) as RestrictionFacts);
    // Of one that is over for so long no list says anything any more.
    const isPast = ({ endedMs, revokedMs }: RestrictionFacts): boolean =>
      revokedMs === null && endedMs !== null && endedMs < nowMs - rememberedMs;
    const restrictions = facts.filter((each) => !isPast(each));
    const text = restrictions.map(({ restrictionId, version }) => `${restrictionId} ${version}`).join('\n');
    if (text === this.#text) return;
    this.#text = text;
    this.#restrictions = restrictions;
    this.#classes.clear();
  }

  #restricted(classNumber: number): Restricted {
    if (this.#classes.has(classNumber)) return this.#classes.get(classNumber);
    const row = this.#facts.get(classNumber);
    // A class that only certificates have named: what it is follows, and has the shard built again.
    if (!row || row.facts === null) return undefined;
    const phone = JSON.parse(String(row.facts)) as DeviceClass;
    const about = this.#restrictions.filter((restriction) => isAboutClass(restriction, phone));
    const heldMs = Math.min(...about.map((restriction) => restriction.heldMs));
    const held = { reason: 'certificateHold', revokedMs: heldMs, invalidityMs: null } as const;
    const restricted = about.length === 0 ? undefined : { status: classStatus(phone, about), heldMs, held };
    this.#classes.set(classNumber, restricted);
    return restricted;
  }

  #cipher(epoch: number, keys: readonly EpochKey[]): SerialCipher {
    const found = keys.find((each) => each.epoch === epoch);
    if (!found)
      throw new PkiError(
        'record-unavailable',
        `the key of epoch ${epoch} is not known yet: the CA has not been reached`,
      );
    const name = `${epoch}:${Buffer.from(found.key).toString('base64')}`;
    const cipher = this.#ciphers.get(name) ?? new SerialCipher(epoch, found.key);
    this.#ciphers.set(name, cipher);
    return cipher;
  }
}

function ownStatus(item: StoredEntry | undefined): RecordedStatus {
  if (item?.state !== 'held') return goodStatus;
  const revokedMs = latestRevocation(item.entry);
  return { state: 'held', reason: 'certificateHold', revokedMs, invalidityMs: null, heldBy: [] };
}

/** Where the octets of a serial number of ours begin in an entry: behind the heads of SEQUENCE and INTEGER, both short. */
const serialAt = 4;
/** The entry that was made last, for all that are like it. */
let last: { readonly says: Says; readonly entry: Bytes } | undefined;

/** Thousands of entries differ by nothing but their certificates, whose serial numbers are of one length and need no sign octet. */
function entryOf(serial: Bytes, says: Says): Bytes {
  const isAlike = last?.says.revokedMs === says.revokedMs && last.says.reason === says.reason;
  const like = isAlike && last ? last : { says, entry: encodeCrlEntry({ serial, ...says }) };
  last = like;
  const entry = Uint8Array.from(like.entry);
  entry.set(serial, serialAt);
  return entry;
}
