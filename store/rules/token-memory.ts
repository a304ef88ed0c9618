import type { TokenMemory } from '../../core/crypto/signer.ts';
import type { Slot } from '../../core/model/kinds.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Shard } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { readHeads, recordedWriters } from '../engine/heads.ts';

// What the record and the token know of each other, and what ceremonies read.

/** The token remembers how far an authority's positions have been leased: the epoch above the position. */
export const leaseMemory = (authority: string): string => `lease:${authority}`;
export const leaseMark = (epoch: number, end: number): number => epoch * 2 ** 40 + end;
export const epochOfMark = (mark: number): number => Math.floor(mark / 2 ** 40);

/** And how far a writer's events have come, in each incarnation of the record. */
export const incarnationMemory = (incarnation: string): string => `incarnation:${incarnation}`;
/** The highest time, after it was taken back so many times. */
export const timeMemory = (takenBack: number): string => `time:${takenBack}`;
export const takenBackMemory = 'time-taken-back';
/** How many incarnations of the record there have been; each remembers its number. */
export const incarnationsMemory = 'incarnations';
/** Where a writer's events begin in an incarnation: behind those of the backup that it was made of. */
export const startMemory = (incarnation: string, writer: string): string => `start:${incarnation}:${writer}`;
/** The highest schema that the record has had. */
export const schemaMemory = 'schema';
export const headMemory = (incarnation: string, writer: string): string => `head:${incarnation}:${writer}`;

/** What this software reads and writes. A record of before is migrated first (`store/migrations`). */
export const schemaVersion = '7';

/** Names of the links on record. */
export async function recordedLinks(database: RecordDatabase): Promise<ReadonlySet<string>> {
  const rows = await database.read((reader) => reader.find('authorityLink', {}));
  return new Set(rows.map(({ link }) => link));
}

/** The shard that an authority's own certificates are in, as it was opened with the first. */
export async function ownShardOf(database: RecordDatabase, authority: string): Promise<Shard> {
  const [row] = await database.read((reader) => reader.find('shard', { series: `authority/${authority}` }));
  if (!row) throw new PkiError('record-unavailable', `${authority} has no shard for its own certificates`);
  return row;
}

export interface RecordedAuthority {
  readonly authority: string;
  readonly slot: Slot;
  readonly generation: number;
  readonly suite: string;
  readonly certificate: Bytes;
  readonly createdMs: number;
}

export function recordedAuthorities(database: RecordDatabase): Promise<RecordedAuthority[]> {
  return database.read((reader) => {
    const rows = reader.find('authority', {});
    return rows.map((row) => ({ ...row, slot: row.slot as Slot }));
  });
}

/**
 * Refuses a record that is older than what was issued or revoked from it: the token remembers how far leases went,
 * and events up to the last few seconds.
 */
export async function refuseOlderRecord(database: RecordDatabase, memory: TokenMemory): Promise<void> {
  const incarnation = await incarnationOf(database);
  if ((await memory.recall(incarnationMemory(incarnation))) === 0) {
    throw new PkiError(
      'record-unavailable',
      'the token does not know this record: it was not made by its ceremony or a restore',
    );
  }
  const rememberedHead = await memory.recall(headMemory(incarnation, database.writer));
  if ((await eventHead(database)) < rememberedHead) {
    throw new PkiError(
      'record-unavailable',
      'the record has lost events; restore it, and reconcile it with its followers',
    );
  }
  for (const { authority } of await recordedAuthorities(database)) {
    // The token first: what another node leases in between makes the record newer, not older.
    const remembered = await memory.recall(leaseMemory(authority));
    const recorded = await database.read((reader) => {
      const [epoch] = reader.find('epoch', { authority }, { descending: true, limit: 1 });
      if (!epoch) return 0;
      const [lease] = reader.find('lease', { authority, epoch: epoch.epoch }, { descending: true, limit: 1 });
      return leaseMark(epoch.epoch, lease?.end ?? 0);
    });
    if (recorded < remembered) {
      throw new PkiError(
        'record-unavailable',
        `the record is older than what ${authority} has issued; restore it with a new epoch`,
      );
    }
  }
}

/** Which record this is: a restored one is another. */
export async function incarnationOf(database: RecordDatabase): Promise<string> {
  return (await database.read((reader) => reader.get('meta', { name: 'incarnation' })))?.value ?? '';
}

/** Position of this writer's last event; zero before the first. */
export async function eventHead(database: RecordDatabase): Promise<number> {
  const { writer } = database;
  const [head] = await database.read((reader) =>
    reader.find('event', { writer }, { descending: true, limit: 1 }),
  );
  return head?.position ?? 0;
}

/**
 * Has the token remember how far this writer's events go, and the time: every few seconds, and when the service stops. The time
 * is the record's own, which followers have received since it was last written to.
 */
export async function rememberHead(
  database: RecordDatabase,
  memory: TokenMemory,
  nowMs: number,
): Promise<void> {
  const { writer } = database;
  await memory.remember(headMemory(await incarnationOf(database), writer), await eventHead(database));
  await memory.remember(timeMemory(await takenBack(database, memory)), nowMs);
}

/** How often the time was taken back. The record says so first, and the token is updated where a process died in between. */
async function takenBack(database: RecordDatabase, memory: TokenMemory): Promise<number> {
  const row = await database.read((reader) => reader.get('meta', { name: takenBackMemory }));
  const recorded = Number(row?.value ?? 0);
  const remembered = await memory.recall(takenBackMemory);
  if (recorded > remembered) await memory.remember(takenBackMemory, recorded);
  return Math.max(recorded, remembered);
}

/** The highest time that the record or the token knows, which no clock may fall behind for issuing; 0 before the first. */
export async function highestTimeMs(database: RecordDatabase, memory: TokenMemory): Promise<number> {
  const remembered = await memory.recall(timeMemory(await takenBack(database, memory)));
  return Math.max(remembered, await latestRecordedMs(database));
}

/** The latest time at which anything was recorded, by any writer; zero before the first. */
export function latestRecordedMs(database: RecordDatabase): Promise<number> {
  return database.read((reader) =>
    Math.max(0, ...recordedWriters(reader).map((writer) => readHeads(reader, writer).atMs)),
  );
}
