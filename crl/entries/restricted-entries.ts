import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { SerialCipher } from '../../core/crypto/serial.ts';
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
import { decodeBucket, encodeBucket, type StoredEntry } from '../encode/bucket.ts';
import { encodeCrlEntry } from '../encode/encode.ts';
import { latestRevocation } from '../encode/entries.ts';
import { decodePhones, type StoredPhone } from '../encode/phones.ts';

/** The key of an epoch, under which serial numbers are made. */
export interface EpochKey {
  readonly epoch: number;
  readonly key: Bytes;
}

/** What restrictions make of a class: undefined where none ever was about it. */
type Restricted = { readonly status: ClassStatus | undefined; readonly heldMs: number } | undefined;

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
    this.#review();
    if (this.#restrictions.length === 0) return bucket;
    const items = new Map((bucket ? decodeBucket(bucket) : []).map((item) => [nameOf(item), item]));
    let isOther = false;
    for (const phone of decodePhones(phones)) {
      const restricted = this.#restricted(phone.classNumber);
      // One that ended before was never restricted.
      if (!restricted || phone.notAfterMs < restricted.heldMs) continue;
      const before = items.get(nameOf(phone));
      const after = this.#entryOf(phone, before, restricted, keys);
      if (!after || after === before) continue;
      items.set(nameOf(phone), after);
      isOther = true;
    }
    return isOther ? encodeBucket(items.values()) : bucket;
  }

  #entryOf(
    phone: StoredPhone,
    before: StoredEntry | undefined,
    { status, heldMs }: Exclude<Restricted, undefined>,
    keys: readonly EpochKey[],
  ): StoredEntry | undefined {
    if (before?.state === 'revoked' || before?.state === 'ended') return before;
    const own = ownStatus(before);
    const effective = effectiveStatus(own, status);
    if (effective === own) {
      if (before) return before;
      // Why it may leave a CRL that lists it still.
      const held = { reason: 'certificateHold', revokedMs: heldMs, invalidityMs: null } as const;
      return this.#stored(phone, 'released', held, keys);
    }
    const { reason, revokedMs, invalidityMs } = effective;
    if (revokedMs === null) return before;
    return this.#stored(
      phone,
      effective.state === 'held' ? 'held' : 'revoked',
      { reason, revokedMs, invalidityMs },
      keys,
    );
  }

  #stored(
    { epoch, position, notAfterMs }: StoredPhone,
    state: StoredEntry['state'],
    says: Omit<Parameters<typeof encodeCrlEntry>[0], 'serial'>,
    keys: readonly EpochKey[],
  ): StoredEntry {
    const entry = encodeCrlEntry({ serial: this.#cipher(epoch, keys).encrypt(position), ...says });
    return { epoch, position, version: 0, state, notAfterMs, entry };
  }

  /** Restrictions as they are now. What was worked out before is forgotten where they are others. */
  #review(): void {
    const facts = this.#restrictionRows.all().map((row) => String(row.facts));
    const text = facts.join('\n');
    if (text === this.#text) return;
    this.#text = text;
    this.#restrictions = facts.map((each) => JSON.parse(each) as RestrictionFacts);
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
    const restricted = about.length === 0 ? undefined : { status: classStatus(phone, about), heldMs };
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

const nameOf = ({ epoch, position }: Pick<StoredPhone, 'epoch' | 'position'>): number =>
  position * 256 + epoch;
