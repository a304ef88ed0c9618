import { randomBytes } from 'node:crypto';
import type { KeyWrapper, TokenMemory } from '../../core/crypto/signer.ts';
import type { FeedEvent, ShardEvent, StatusEvent } from '../../core/feed/feed.ts';
import type { JournalContent } from '../../core/feed/feed-journal.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { HoldSource, RecordedStatus } from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { readHeads } from '../engine/heads.ts';
import type { Transaction } from '../engine/record.ts';
import { epochContext } from '../feed/event-feed.ts';
import {
  epochOfMark,
  headMemory,
  incarnationMemory,
  incarnationsMemory,
  leaseMark,
  leaseMemory,
  openEpoch,
  recordedAuthorities,
  startMemory,
} from '../rules/administration.ts';
import { writeStatus } from '../rules/change.ts';
import { orderDeletion } from '../rules/outbox.ts';
import { openShard } from '../rules/shards.ts';
import { changeStanding, standingOf, writeStanding } from '../rules/standing.ts';
import { statusOf } from '../rules/views.ts';
import type { Row } from '../schema/schema.ts';
import {
  type BackupEnd,
  isSame,
  nameOf,
  openReplicated,
  type Replicated,
  type ReplicatedCertificates,
  replay,
} from './replay.ts';

// What makes a record out of a backup: it must not forget what its followers know, nor number anything twice.

export interface ReconcileReport {
  readonly incarnation: string;
  /** Certificates whose status the followers knew better. */
  readonly changed: number;
  /** Certificates that were issued after the backup: their octets are not on record, and whose they are only where that was replicated. */
  readonly adopted: readonly AdoptedCertificate[];
  /** What else was replicated since the backup, rows by table: deaths, blocked keys, restrictions, clients. */
  readonly replayed: ReadonlyMap<string, number>;
  /**
   * Holders without a good certificate since the backup, where journals of an earlier version do not say why: they may have died or
   * left, and are closed until their return is reported.
   */
  readonly closed: number;
  /** What cannot be brought back, in words. */
  readonly lost: readonly string[];
}

/** What is known of a certificate that is adopted. */
export interface AdoptedCertificate extends CertificateId {
  readonly kind: string;
  readonly state: string;
  readonly notAfterMs: number;
  /** null where no journal has it. */
  readonly holderId: string | null;
  readonly mediumId: string | null;
}

/** Status events written in one transaction. */
const batchSize = 500;

/** Gives a restored record a new incarnation and new epochs, and teaches it what its followers' journals know. */
export async function reconcile(options: {
  readonly database: RecordDatabase;
  readonly actor: Actor;
  readonly memory: TokenMemory;
  readonly keyWrapper: KeyWrapper;
  /** What the journals hold. */
  readonly received: JournalContent;
  /** Numbers of the incarnations of the record, the backup's own among them. */
  readonly ordinals: ReadonlyMap<string, number>;
  /** What opens what they hold for the CA alone; null where the backup has no key for it. */
  readonly seal: JournalSeal | null;
  /** What is known to be lost already, in words. */
  readonly lost: readonly string[];
  readonly acceptLoss: boolean;
  readonly nowMs: number;
}): Promise<ReconcileReport> {
  const { database, actor, memory, keyWrapper, received, seal, nowMs } = options;
  const { events } = received;
  const latest = latestStatuses(events);
  const end = await endOf(database);
  const replicated = openReplicated(received.sealed, seal, { end, ordinals: options.ordinals });
  const known = await knownEpochs(database);
  const epochs = replicated.rows
    .filter(({ table }) => table === 'epoch')
    .map(({ values }) => values as unknown as Row<'epoch'>)
    .filter(({ authority, epoch }) => !known.get(authority)?.has(epoch));
  for (const { authority, epoch } of epochs)
    known.set(authority, (known.get(authority) ?? new Set()).add(epoch));
  const isLost = ({ authority, epoch }: StatusEvent): boolean => !known.get(authority)?.has(epoch);
  const lost = new Set([
    ...options.lost,
    ...latest
      .filter(isLost)
      .map(({ authority, epoch }) => `the certificates of epoch ${epoch} of ${authority}`),
  ]);
  // Before the token learns anything: after that the record there was is not started from again.
  if (lost.size > 0 && !options.acceptLoss) {
    throw new PkiError(
      'bad-request',
      `the restored record would lack ${[...lost].join('; ')}. Restore with the journals of all nodes, or with --accept-loss`,
    );
  }
  const incarnation = crypto.randomUUID();
  await database.write({ actor, action: 'restore', subject: { incarnation } }, (tx) => {
    const before = tx.get('meta', { name: 'incarnation' });
    if (!before) throw new PkiError('record-unavailable', 'the record has no incarnation');
    tx.update('meta', { ...before, value: incarnation }, before);
  });
  for (const epoch of epochs.sort((a, b) => a.epoch - b.epoch))
    await openEpoch(database, actor, { ...epoch, nowMs });
  const leases: [authority: string, epoch: number][] = [];
  for (const { authority } of await recordedAuthorities(database)) {
    const newest = Math.max(
      ...(known.get(authority) ?? [0]),
      epochOfMark(await memory.recall(leaseMemory(authority))),
    );
    await skipToEpoch(database, actor, { authority, epoch: newest + 1, keyWrapper, nowMs });
    leases.push([authority, newest + 1]);
  }
  await adoptShards(database, actor, events);
  let changed = 0;
  const adopted: AdoptedCertificate[] = [];
  const ceased = new Set<string>();
  for (let i = 0; i < latest.length; i += batchSize) {
    const batch = latest.slice(i, i + batchSize);
    await database.write({ actor, action: 'reconcile', subject: { incarnation, from: i } }, (tx) => {
      for (const event of batch) {
        if (isLost(event)) continue;
        const done = teach(tx, event, { actor, nowMs, ceased, replicated: replicated.certificates });
        if (done === 'changed') changed += 1;
        else if (done !== 'known') adopted.push(done);
      }
    });
  }
  const replayed = await replayAll(database, actor, replicated, nowMs);
  const bound = await bindReplicated(database, actor, replicated);
  if (bound > 0) replayed.set('certificate', bound);
  // Where everything was replicated, so were deaths.
  const closed = received.isProven ? 0 : await closeCeased(database, actor, [...ceased], nowMs);
  const head = await database.read((reader) =>
    reader.find('event', { writer: database.writer }, { descending: true, limit: 1 }),
  );
  for (const [authority, epoch] of leases) await memory.remember(leaseMemory(authority), leaseMark(epoch, 0));
  // The newest there is: a later restore asks for the journals of all between its backup and this.
  const number =
    1 + Math.max(await memory.recall(incarnationsMemory), options.ordinals.get(end.incarnation) ?? 1);
  await memory.remember(startMemory(incarnation, database.writer), end.position);
  await memory.remember(headMemory(incarnation, database.writer), head[0]?.position ?? 0);
  await memory.remember(incarnationMemory(incarnation), number);
  await memory.remember(incarnationsMemory, number);
  return { incarnation, changed, adopted, replayed, closed, lost: [...lost] };
}

/** Where the backup ends that is being restored: before anything is written to it. */
async function endOf(database: RecordDatabase): Promise<BackupEnd> {
  const { writer } = database;
  return database.read((reader) => {
    const { position } = readHeads(reader, writer);
    const incarnation = reader.get('meta', { name: 'incarnation' })?.value ?? '';
    return { incarnation, position };
  });
}

/** Brings back the rows of all other tables; gives how many of each table were missing or out of date. */
async function replayAll(
  database: RecordDatabase,
  actor: Actor,
  { rows }: Replicated,
  nowMs: number,
): Promise<Map<string, number>> {
  const news = new Map<string, number>();
  for (let i = 0; i < rows.length; i += batchSize) {
    await database.write({ actor, action: 'replay', subject: { from: i } }, (tx) => {
      for (const row of rows.slice(i, i + batchSize))
        if (replay(tx, row, nowMs)) news.set(row.table, (news.get(row.table) ?? 0) + 1);
    });
  }
  return news;
}

/** Gives certificates that the backup has the holders that they were bound to since. Gives how many. */
async function bindReplicated(
  database: RecordDatabase,
  actor: Actor,
  { certificates }: Replicated,
): Promise<number> {
  const facts = [...certificates.facts.values()];
  let bound = 0;
  for (let i = 0; i < facts.length; i += batchSize) {
    await database.write({ actor, action: 'bindReplicated', subject: { from: i } }, (tx) => {
      for (const columns of facts.slice(i, i + batchSize)) {
        const row = tx.get('certificate', columns as unknown as CertificateId);
        if (!row || isSame(row, { ...row, ...columns })) continue;
        tx.update('certificate', { ...row, ...columns }, row);
        bound += 1;
      }
    });
  }
  return bound;
}

/**
 * Followers of an earlier version did not receive deaths. A holder whose certificates all ceased since the backup may have died: nothing is issued
 * until the return to the register is reported.
 */
async function closeCeased(
  database: RecordDatabase,
  actor: Actor,
  holderIds: readonly string[],
  nowMs: number,
): Promise<number> {
  let closed = 0;
  for (const holderId of holderIds) {
    await database.write({ actor, action: 'closeRestored', subject: {} }, (tx) => {
      const certificates = tx.find('certificate', { holderId });
      const standing = standingOf(tx, holderId);
      if (standing?.closedBy != null || certificates.some(({ state }) => state !== 'revoked')) return;
      const event = { event: 'restored', occurredMs: nowMs };
      writeStanding(tx, holderId, changeStanding(standing, 'leaves', event), nowMs);
      closed += 1;
    });
  }
  return closed;
}

async function knownEpochs(database: RecordDatabase): Promise<Map<string, Set<number>>> {
  const rows = await database.read((reader) => reader.find('epoch', {}));
  const epochs = new Map<string, Set<number>>();
  for (const { authority, epoch } of rows) {
    epochs.set(authority, (epochs.get(authority) ?? new Set()).add(epoch));
  }
  return epochs;
}

/** Opens every epoch up to that one: those between were opened after the backup, and are not used again. */
async function skipToEpoch(
  database: RecordDatabase,
  actor: Actor,
  options: { authority: string; epoch: number; keyWrapper: KeyWrapper; nowMs: number },
): Promise<void> {
  const { authority, keyWrapper, nowMs } = options;
  const present = await database.read((reader) => reader.find('epoch', { authority }));
  for (let epoch = (present.at(-1)?.epoch ?? 0) + 1; epoch <= options.epoch; epoch++) {
    const wrappedKey: Bytes = await keyWrapper.wrap(epochContext(authority, epoch), randomBytes(16));
    await openEpoch(database, actor, { authority, epoch, wrappedKey, nowMs });
  }
}

/** The last word of the journals on each certificate: the highest version, but revoked over whatever is not. */
export function latestStatuses(events: readonly FeedEvent[]): StatusEvent[] {
  const latest = new Map<string, StatusEvent>();
  for (const event of events) {
    if (event.type !== 'status') continue;
    const name = JSON.stringify([event.authority, event.epoch, event.position]);
    const before = latest.get(name);
    const final = before?.state === 'revoked' && event.state !== 'revoked';
    const graver = event.state === 'revoked' && before?.state !== 'revoked';
    if (!before || graver || (!final && event.version > before.version)) latest.set(name, event);
  }
  return [...latest.values()];
}

async function adoptShards(
  database: RecordDatabase,
  actor: Actor,
  events: readonly FeedEvent[],
): Promise<void> {
  const shards = new Map(
    events.filter((event) => event.type === 'shard').map((event) => [event.shard, event]),
  );
  const known = new Set(
    (await database.read((reader) => reader.find('shard', {}))).map(({ shard }) => shard),
  );
  const missing = [...shards.values()].filter(({ shard }) => !known.has(shard));
  if (missing.length === 0) return;
  await database.write({ actor, action: 'adoptShards', subject: { shards: missing.length } }, (tx) => {
    for (const event of missing) adoptShard(tx, event);
  });
}

function adoptShard(tx: Transaction, event: ShardEvent): void {
  const { shard, authority, path } = event;
  const [series, number] = [
    shard.slice(0, shard.lastIndexOf('/')),
    Number(shard.slice(shard.lastIndexOf('/') + 1)),
  ];
  const distributionPointName = Buffer.from(event.distributionPointName, 'base64');
  openShard(tx, { series, number, shard, authority, distributionPointName, path }, 0);
}

/** Brings one certificate to what a follower knows of it. Revoked in the record stays revoked, whatever they know. */
function teach(
  tx: Transaction,
  event: StatusEvent,
  by: {
    readonly actor: Actor;
    readonly nowMs: number;
    /** Holders with certificates that ceased since the backup. */
    readonly ceased: Set<string>;
    readonly replicated: ReplicatedCertificates;
  },
): 'known' | 'changed' | AdoptedCertificate {
  const cause = { event: 'reconciled', cascadedFrom: null, partOf: null };
  const { actor, nowMs, replicated } = by;
  const { state, reason, revokedMs, invalidityMs, version, change } = event;
  const row = tx.get('certificate', keyOf(event));
  const heldBy = state === 'held' ? holdingsOf(event, row, replicated) : [];
  const to: RecordedStatus = { state, reason, revokedMs, invalidityMs, heldBy };
  if (row) {
    const graver = state === 'revoked' && row.state !== 'revoked';
    const final = row.state === 'revoked' && state !== 'revoked';
    if (final || (version <= row.version && !graver)) return 'known';
    const behind = { ...row, version: Math.max(version, row.version + 1) - 1 };
    tx.update('certificate', behind, row);
    writeStatus(tx, { actor, nowMs, row: behind, to, change, cause });
    orderAgain(tx, row, to, nowMs);
    if (reason === 'cessationOfOperation' && row.holderId !== null) by.ceased.add(row.holderId);
    return 'changed';
  }
  const adopted = adoptedRow(event, replicated);
  const { holderId, mediumId, kind, notAfterMs } = adopted;
  if (holderId !== null) tx.insertNew('holder', { holderId, createdMs: nowMs });
  tx.insert('certificate', adopted);
  tx.insert('adopted', { ...keyOf(event), adoptedMs: nowMs });
  if (event.shard !== null) countOnShard(tx, event.shard);
  writeStatus(tx, { actor, nowMs, row: adopted, to, change, cause });
  orderAgain(tx, adopted, to, nowMs);
  return { ...keyOf(event), kind, state, notAfterMs, holderId, mediumId };
}

/** Orders of deletion are not replicated: whether one was confirmed is not known, and a TSM does no harm by deleting twice. */
function orderAgain(
  tx: Transaction,
  row: Row<'certificate'>,
  { state }: RecordedStatus,
  nowMs: number,
): void {
  if (state === 'revoked' && row.kind.startsWith('phone-') && row.mediumId !== null)
    orderDeletion(tx, row, nowMs);
}

/** What holds a certificate: as it was replicated, or as before, or as if an event did, which no restriction's end undoes. */
function holdingsOf(
  event: StatusEvent,
  row: Row<'certificate'> | undefined,
  { heldBy }: ReplicatedCertificates,
): readonly HoldSource[] {
  const name = heldBy.get(nameOf(event));
  if (name) return name.split(' ') as HoldSource[];
  return row?.state === 'held' ? statusOf(row).heldBy : ['event'];
}

function adoptedRow(event: StatusEvent, { facts }: ReplicatedCertificates): Row<'certificate'> {
  return {
    ...keyOf(event),
    state: 'reserved',
    reason: null,
    revokedMs: null,
    invalidityMs: null,
    heldBy: null,
    notify: null,
    kind: event.shard?.split('/')[0] ?? 'ocsp-responder',
    holderId: null,
    mediumId: null,
    issuanceId: 'adopted',
    version: event.version - 1,
    notBeforeMs: 0,
    notAfterMs: event.notAfterMs,
    shard: event.shard,
    restsOnAuthority: null,
    restsOnEpoch: null,
    restsOnPosition: null,
    ...facts.get(nameOf(event)),
  };
}

function countOnShard(tx: Transaction, shard: string): void {
  const series = shard.slice(0, shard.lastIndexOf('/'));
  const rows = tx.find('shard', { series });
  const row = rows.find((candidate) => candidate.shard === shard);
  if (!row) throw new PkiError('bad-request', `the journals speak of shard ${shard} and do not define it`);
  tx.update('shard', { ...row, issued: row.issued + 1 }, row);
}
