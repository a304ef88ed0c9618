import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { DeviceClassEvent, RestrictionEvent } from '../../core/feed/feed.ts';
import { RestrictedClasses, type RestrictedClassesState } from '../../core/feed/restricted-classes.ts';
import type { DeviceClass } from '../../core/model/device.ts';
import type { RestrictionFacts } from '../../core/model/restriction.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { bucketOf, bucketsPerShard, nameOf } from '../encode/bucket.ts';
import { decodePhones, encodePhones, type StoredPhone } from '../encode/phones.ts';

// What a publisher remembers of phones, in tables of its record: of which class each certificate's phone is, and what restricts classes.
// A restriction writes no row of a phone. When it begins or ends, CRLs of the shards that contain matching phones are issued again.

export const phoneTables = `
  CREATE TABLE IF NOT EXISTS phones (id INTEGER PRIMARY KEY, octets BLOB NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS deviceClass (number INTEGER PRIMARY KEY, deviceClass TEXT NOT NULL UNIQUE, facts TEXT) STRICT;
  CREATE TABLE IF NOT EXISTS restriction (restrictionId TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS classInShard (number INTEGER, shard INTEGER, PRIMARY KEY (number, shard)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS epoch (authority TEXT, epoch INTEGER, PRIMARY KEY (authority, epoch)) STRICT, WITHOUT ROWID;`;

/** Of which class the phone of a certificate is, as it is to be remembered. */
export interface PhoneChange extends Omit<StoredPhone, 'classNumber'> {
  readonly authority: string;
  readonly shard: string;
  readonly deviceClass: string;
}

/** How long an end is remembered: a certificate stays listed until a scheduled CRL after its end, which may be late. */
export const rememberedMs = 90 * 86_400_000;

/** What restricts classes, as the record has it. */
function readRestricted(database: DatabaseSync): RestrictedClassesState {
  const classes = database.prepare('SELECT deviceClass, facts FROM deviceClass ORDER BY number').all();
  const restrictions = database.prepare('SELECT facts FROM restriction').all();
  return {
    classes: classes.map(({ deviceClass, facts }) => ({
      deviceClass: String(deviceClass),
      facts: facts === null ? null : (JSON.parse(String(facts)) as DeviceClass),
    })),
    restrictions: restrictions.map(({ facts }) => JSON.parse(String(facts)) as RestrictionFacts),
  };
}

/** The writer's side, within transactions of the store. */
export class PhoneStore {
  readonly #prepared: (sql: string) => StatementSync;
  readonly #classes: RestrictedClasses;
  readonly #epochs: Set<string>;

  constructor(database: DatabaseSync, prepared: (sql: string) => StatementSync) {
    this.#prepared = prepared;
    this.#classes = new RestrictedClasses();
    this.#classes.restore(readRestricted(database));
    const epochs = prepared('SELECT authority, epoch FROM epoch').all();
    this.#epochs = new Set(epochs.map(({ authority, epoch }) => `${authority}:${epoch}`));
  }

  /** Epochs under which an authority's certificates for phones were issued. */
  epochsOf(authority: string): number[] {
    const rows = this.#prepared('SELECT epoch FROM epoch WHERE authority = ?').all(authority);
    return rows.map(({ epoch }) => Number(epoch));
  }

  /** Gives the shards whose phones are restricted otherwise than before. */
  learn(event: DeviceClassEvent | RestrictionEvent): number[] {
    if (event.type === 'device-class') {
      const number = this.#numberOf(event.deviceClass);
      const facts = JSON.stringify(event.facts);
      this.#prepared('UPDATE deviceClass SET facts = ? WHERE number = ?').run(facts, number);
    } else {
      const { type: _, ...facts } = event;
      this.#prepared(
        `INSERT INTO restriction VALUES (?, ?) ON CONFLICT DO UPDATE SET facts = excluded.facts
         WHERE json_extract(excluded.facts, '$.version') > json_extract(facts, '$.version')`,
      ).run(facts.restrictionId, JSON.stringify(facts));
    }
    const shards = this.#prepared('SELECT shard FROM classInShard WHERE number = ?');
    const changed = this.#classes.learn(event);
    return changed.flatMap((number) => shards.all(number).map(({ shard }) => Number(shard)));
  }

  /** Remembers the classes of a shard's phones. Gives whether its CRL may be another for it. */
  remember(shard: number, changes: readonly PhoneChange[], knownMs: number): boolean {
    let isChanged = false;
    for (const [bucket, all] of Map.groupBy(changes, ({ position }) => bucketOf(position))) {
      const id = shard * bucketsPerShard + bucket;
      const phones = new Map(this.#read(id).map((phone) => [nameOf(phone), phone]));
      for (const change of all) {
        const classNumber = this.#numberOf(change.deviceClass);
        const before = phones.get(nameOf(change));
        if (before && before.version > change.version) continue;
        const { epoch, position, version, notAfterMs } = change;
        phones.set(nameOf(change), { epoch, position, classNumber, version, notAfterMs });
        this.#prepared('INSERT OR IGNORE INTO classInShard VALUES (?, ?)').run(classNumber, shard);
        this.#noteEpoch(change);
        const statuses = [before?.classNumber, classNumber].map(
          (number) => number && this.#classes.statusOf(number),
        );
        if (statuses.some(Boolean)) isChanged = true;
      }
      const kept = [...phones.values()].filter(({ notAfterMs }) => notAfterMs >= knownMs - rememberedMs);
      this.#write(id, kept);
    }
    return isChanged;
  }

  /** What has ended, and was shown, is remembered by its entry alone. */
  end(id: number, names: ReadonlySet<number>): void {
    const phones = this.#read(id);
    const kept = phones.filter((phone) => !names.has(nameOf(phone)));
    if (kept.length < phones.length) this.#write(id, kept);
  }

  #numberOf(deviceClass: string): number {
    const before = this.#classes.count;
    const number = this.#classes.numberOf(deviceClass);
    if (this.#classes.count > before)
      this.#prepared('INSERT INTO deviceClass VALUES (?, ?, NULL)').run(number, deviceClass);
    return number;
  }

  #noteEpoch({ authority, epoch }: PhoneChange): void {
    const name = `${authority}:${epoch}`;
    if (this.#epochs.has(name)) return;
    this.#prepared('INSERT OR IGNORE INTO epoch VALUES (?, ?)').run(authority, epoch);
    this.#epochs.add(name);
  }

  #read(id: number): StoredPhone[] {
    const row = this.#prepared('SELECT octets FROM phones WHERE id = ?').get(id);
    return row ? decodePhones(row.octets as Bytes) : [];
  }

  #write(id: number, phones: Iterable<StoredPhone>): void {
    this.#prepared('INSERT OR REPLACE INTO phones VALUES (?, ?)').run(id, encodePhones(phones));
  }
}
