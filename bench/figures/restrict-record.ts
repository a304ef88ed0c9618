import { DatabaseSync } from 'node:sqlite';
import { distributionPointName } from '../../core/asn1/extension.ts';
import { directoryName, encodeName, uriName } from '../../core/asn1/name.ts';
import { deviceClassName, deviceClassText } from '../../core/model/device.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import type { Row } from '../../store/schema/schema.ts';
import { certificateOf, inserter, mediumOf } from './issue-record.ts';

/** What the phones of the bench are. */
export const model = 'Vulnerable 1';
export const certificatesOfShard = 20_000;
const commitEvery = 20_000;

interface KnownClass {
  readonly patchLevel: string;
  readonly deviceClass: string;
}
const day = 86_400_000;

/** Authorities of a phone's two certificates. */
export const authorities = ['signing-1', 'authentication-1'] as const;

/**
 * Puts phones of one model on record, each with a pair that is good and that followers receive when the service starts,
 * under positions of the authorities' own epoch. Gives the first position of each authority.
 */
export function populatePhones(file: string, phones: number): Readonly<Record<string, number>> {
  const database = new DatabaseSync(file);
  database.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN');
  const insert = inserter(database);
  const value = (sql: string, ...of: string[]): number =>
    Number(Object.values(database.prepare(sql).get(...of) ?? {})[0] ?? 0);
  const nowMs = systemClock.wallMs();
  const first: Record<string, number> = {};
  for (const authority of authorities) {
    first[authority] = value('SELECT max("end") FROM lease WHERE authority = ?', authority);
    insert('lease', {
      authority,
      epoch: 1,
      first: first[authority] ?? 0,
      end: (first[authority] ?? 0) + phones,
      writer: 'n1',
      leasedMs: nowMs,
    });
  }
  let position = value('SELECT max(position) FROM event');
  const appendEvent = (body: object): void =>
    insert('event', { writer: 'n1', position: ++position, body: JSON.stringify([body]) });
  const classes = ['2026-01', '2026-03'].map((patchLevel) => {
    const text = deviceClassText({ ...facts, patchLevel }, 0);
    const deviceClass = deviceClassName(text);
    insert('deviceClass', { deviceClass, facts: text });
    appendEvent({ type: 'device-class', deviceClass, facts: JSON.parse(text) });
    return { patchLevel, deviceClass };
  }) as [KnownClass, KnownClass];
  for (let i = 0; i < phones; i++) {
    const holderId = `r-${String(i).padStart(9, '0')}`;
    const mediumId = `phone:${holderId}`;
    // Half of the phones have reported another patch level since they were enrolled.
    const [known, said] = [i % 2 === 0 ? classes[0] : classes[1], classes[0]];
    insert('medium', { ...mediumOf(mediumId, holderId), ...facts, patchLevel: known.patchLevel });
    for (const [n, authority] of authorities.entries()) {
      const kind = n === 0 ? 'phone-signing' : 'phone-authentication';
      const number = Math.floor(i / certificatesOfShard);
      const row = shardOf(kind, number, authority);
      const { shard } = row;
      if (i % certificatesOfShard === 0) {
        insert('shard', row);
        appendEvent(shardEvent(row));
      }
      const key = { authority, epoch: 1, position: (first[authority] ?? 0) + i };
      const notAfterMs = nowMs + 1000 * day;
      const issued = { kind, notAfterMs, shard };
      insert('certificate', {
        ...certificateOf(key, { holderId, mediumId, issuanceId: holderId }),
        ...issued,
      });
      const { deviceClass } = known;
      const version = known === said ? 1 : 2;
      insert('phoneCertificate', { ...key, holderId, mediumId, deviceClass, version, sinceMs: nowMs });
      const device = { type: 'device', ...key, notAfterMs, shard };
      appendEvent({ ...device, deviceClass: said.deviceClass, version: 1 });
      if (known !== said) appendEvent({ ...device, deviceClass, version });
      const status = { state: 'good', reason: null, revokedMs: null, invalidityMs: null };
      appendEvent({ type: 'status', change: 'issued', ...key, ...status, version: 1, notAfterMs, shard });
    }
    if (i % commitEvery === 0) database.exec('COMMIT; BEGIN');
  }
  database.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)');
  database.close();
  return first;
}

const facts = {
  type: 'phone',
  platform: 'android',
  model,
  osVersion: '16',
  secureElement: 'GP-SE 2.3',
  patchLevel: '2026-01',
};

function shardOf(kind: string, number: number, authority: string): Row<'shard'> {
  const series = `${kind}/1/13113`;
  const shard = `${series}/${number}`;
  const path = `crl/${shard}.crl`;
  const names = [directoryName(encodeName([['CN', shard]])), uriName(`http://127.0.0.1/${path}`)];
  const name = distributionPointName(...names);
  return { series, number, shard, authority, distributionPointName: name, path, issued: certificatesOfShard };
}

function shardEvent({ shard, authority, distributionPointName: name, path }: Row<'shard'>): object {
  return {
    type: 'shard',
    shard,
    authority,
    distributionPointName: Buffer.from(name).toString('base64'),
    path,
  };
}
