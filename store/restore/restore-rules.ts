import type { FeedEvent, ShardEvent, StatusEvent } from '../../core/feed/feed.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { type HoldSource, type RecordedStatus, statusIn } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Transaction } from '../engine/record.ts';
import { byIndex, byKey, type Rule, wholeRecord } from '../engine/rule.ts';
import { writeStatus } from '../rules/change.ts';
import { statusLoads } from '../rules/device-classes.ts';
import { issuanceLoads } from '../rules/holder-loads.ts';
import { orderDeletion } from '../rules/outbox.ts';
import { openShard } from '../rules/shards.ts';
import { changeStanding, standingOf, writeStanding } from '../rules/standing.ts';
import { announce, verifierLoads } from '../rules/verifiers.ts';
import { ownStatusOf } from '../rules/views.ts';
import type { Row } from '../schema/schema.ts';
import {
  isSame,
  nameOf,
  type Replicated,
  type ReplicatedCertificates,
  replay,
  replayLoads,
} from './replay.ts';

// The rules by which a restored record learns what its followers know. No service has the record meanwhile.

export interface Restoring {
  readonly actor: Actor;
}

/** Rows written in one transaction. */
const batchSize = 500;

export function* batchesOf<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let i = 0; i < all.length; i += batchSize) yield all.slice(i, i + batchSize);
}

/** Gives the record a new incarnation. */
export const newIncarnation: Rule<Restoring & { readonly incarnation: string }, void> = {
  action: 'restore',
  actor: ({ actor }) => actor,
  subject: ({ incarnation }) => ({ incarnation }),
  locks: () => [wholeRecord],
  loads: () => [byKey('meta', { name: 'incarnation' })],
  decide: ({ incarnation }, tx) => {
    const before = tx.get('meta', { name: 'incarnation' });
    if (!before) throw new PkiError('record-unavailable', 'the record has no incarnation');
    tx.update('meta', { ...before, value: incarnation }, before);
  },
};

const replayRows: Rule<Restoring & { readonly rows: Replicated['rows'] }, readonly string[]> = {
  action: 'replay',
  actor: ({ actor }) => actor,
  subject: ({ rows }) => ({ rows: rows.length }),
  locks: () => [wholeRecord],
  loads: ({ rows }) => [...rows.flatMap(replayLoads), ...verifiersIn(rows).flatMap(verifierLoads)],
  decide: ({ rows }, tx, { nowMs }) => {
    const news = rows.filter((row) => replay(tx, row, nowMs));
    for (const verifierId of verifiersIn(news)) announce(tx, verifierId, nowMs);
    return news.map(({ table }) => table);
  },
};

/** Verifiers that rows are about. */
const verifiersIn = (rows: Replicated['rows']): string[] => [
  ...new Set(
    rows
      .filter(({ table }) => table === 'verifier' || table === 'verifierCredential')
      .map(({ values }) => String(values.verifierId)),
  ),
];

/** Brings back the rows of all other tables; gives how many of each table were missing or out of date. */
export async function replayAll(
  database: RecordDatabase,
  actor: Actor,
  { rows: all }: Replicated,
  nowMs: number,
): Promise<Map<string, number>> {
  const news = new Map<string, number>();
  for (const rows of batchesOf(all))
    for (const table of await database.run(replayRows, { actor, rows }, nowMs))
      news.set(table, (news.get(table) ?? 0) + 1);
  return news;
}

type Facts = ReplicatedCertificates['facts'] extends ReadonlyMap<string, infer Values> ? Values : never;

const bindRows: Rule<Restoring & { readonly facts: readonly Facts[] }, number> = {
  action: 'bindReplicated',
  actor: ({ actor }) => actor,
  subject: ({ facts }) => ({ rows: facts.length }),
  locks: () => [wholeRecord],
  loads: ({ facts }) =>
    facts.map((values) => byKey('certificate', keyOf(values as unknown as CertificateId))),
  decide: ({ facts }, tx) => {
    let bound = 0;
    for (const columns of facts) {
      const row = tx.get('certificate', columns as unknown as CertificateId);
      if (!row || isSame(row, { ...row, ...columns })) continue;
      tx.update('certificate', { ...row, ...columns }, row);
      bound += 1;
    }
    return bound;
  },
};

/** Gives certificates that the backup has the holders that they were bound to since. Gives how many. */
export async function bindReplicated(
  database: RecordDatabase,
  actor: Actor,
  { certificates }: Replicated,
  nowMs: number,
): Promise<number> {
  let bound = 0;
  for (const facts of batchesOf([...certificates.facts.values()]))
    bound += await database.run(bindRows, { actor, facts }, nowMs);
  return bound;
}

const closeHolder: Rule<Restoring & { readonly holderId: string }, boolean> = {
  action: 'closeRestored',
  actor: ({ actor }) => actor,
  subject: () => ({}),
  locks: () => [wholeRecord],
  loads: ({ holderId }) => [byIndex('certificate', { holderId }), byKey('standing', { holderId })],
  decide: ({ holderId }, tx, { nowMs }) => {
    const certificates = tx.find('certificate', { holderId });
    const standing = standingOf(tx, holderId);
    if (standing?.closedBy != null || certificates.some(({ state }) => state !== 'revoked')) return false;
    const event = { event: 'restored', occurredMs: nowMs };
    writeStanding(tx, holderId, changeStanding(standing, 'leaves', event), nowMs);
    return true;
  },
};

/**
 * Followers of an earlier version did not receive deaths. A holder whose certificates all ceased since the backup may have died: nothing is issued
 * until the return to the register is reported. Gives how many.
 */
export async function closeCeased(
  database: RecordDatabase,
  actor: Actor,
  holderIds: readonly string[],
  nowMs: number,
): Promise<number> {
  let closed = 0;
  for (const holderId of holderIds)
    if (await database.run(closeHolder, { actor, holderId }, nowMs)) closed += 1;
  return closed;
}

const openShards: Rule<Restoring & { readonly shards: readonly ShardEvent[] }, void> = {
  action: 'adoptShards',
  actor: ({ actor }) => actor,
  subject: ({ shards }) => ({ shards: shards.length }),
  locks: () => [wholeRecord],
  loads: () => [],
  decide: ({ shards }, tx) => {
    for (const event of shards) adoptShard(tx, event);
  },
};

/** Opens the shards that the journals define and the backup has not. */
export async function adoptShards(
  database: RecordDatabase,
  actor: Actor,
  { events, nowMs }: { readonly events: readonly FeedEvent[]; readonly nowMs: number },
): Promise<void> {
  const shards = new Map(
    events.filter((event) => event.type === 'shard').map((event) => [event.shard, event]),
  );
  const known = new Set(
    (await database.read((reader) => reader.find('shard', {}))).map(({ shard }) => shard),
  );
  const missing = [...shards.values()].filter(({ shard }) => !known.has(shard));
  if (missing.length > 0) await database.run(openShards, { actor, shards: missing }, nowMs);
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

interface Statuses {
  readonly events: readonly StatusEvent[];
  readonly replicated: ReplicatedCertificates;
}

interface StatusesApplied {
  /** How many certificates' status the followers knew better. */
  readonly changed: number;
  readonly adopted: readonly AdoptedCertificate[];
  /** Holders with certificates that ceased since the backup. */
  readonly ceased: ReadonlySet<string>;
}

const seriesOf = (shard: string): string => shard.slice(0, shard.lastIndexOf('/'));

const applyStatuses: Rule<Restoring & Statuses, StatusesApplied> = {
  action: 'reconcile',
  actor: ({ actor }) => actor,
  subject: ({ events }) => ({ certificates: events.length }),
  locks: () => [wholeRecord],
  loads: ({ events, replicated }) => [
    ...events.flatMap((event) => [
      byKey('certificate', keyOf(event), reachedLoads),
      ...reachedLoads(adoptedRow(event, replicated)),
    ]),
    ...[...new Set(events.flatMap(({ shard }) => (shard === null ? [] : [seriesOf(shard)])))].map((series) =>
      byIndex('shard', { series }),
    ),
  ],
  decide: ({ events, replicated, actor }, tx, { nowMs }) => {
    let changed = 0;
    const adopted: AdoptedCertificate[] = [];
    const ceased = new Set<string>();
    for (const event of events) {
      const done = applyFollowerStatus(tx, event, { actor, nowMs, ceased, replicated });
      if (done === 'changed') changed += 1;
      else if (done !== 'known') adopted.push(done);
    }
    return { changed, adopted, ceased };
  },
};

/** What a new status of a certificate reaches. */
const reachedLoads = (row: Row<'certificate'>) => [
  ...statusLoads(row),
  ...issuanceLoads(row.issuanceId),
  byIndex('watch', keyOf(row)),
  ...(row.mediumId === null ? [] : [byIndex('message', { mediumId: row.mediumId })]),
  ...(row.holderId === null ? [] : [byKey('wish', { holderId: row.holderId })]),
];

/** Brings certificates to what followers know of them. */
export async function adoptStatuses(
  database: RecordDatabase,
  actor: Actor,
  { events: all, replicated, nowMs }: Statuses & { readonly nowMs: number },
): Promise<StatusesApplied> {
  let changed = 0;
  const adopted: AdoptedCertificate[] = [];
  const ceased = new Set<string>();
  for (const events of batchesOf(all)) {
    const applied = await database.run(applyStatuses, { actor, events, replicated }, nowMs);
    changed += applied.changed;
    adopted.push(...applied.adopted);
    for (const holderId of applied.ceased) ceased.add(holderId);
  }
  return { changed, adopted, ceased };
}

function adoptShard(tx: Transaction, event: ShardEvent): void {
  const { shard, authority, path } = event;
  const series = seriesOf(shard);
  const number = Number(shard.slice(series.length + 1));
  const distributionPointName = Buffer.from(event.distributionPointName, 'base64');
  openShard(tx, { series, number, shard, authority, distributionPointName, path }, 0);
}

/** Brings one certificate to what a follower knows of it. Revoked in the record stays revoked, whatever they know. */
function applyFollowerStatus(
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
  const { state, reason, version, change } = event;
  const row = tx.get('certificate', keyOf(event));
  const heldBy = state === 'held' ? holdingsOf(event, row, replicated) : [];
  const to: RecordedStatus = { ...statusIn(event), heldBy };
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
  return row?.state === 'held' ? ownStatusOf(row).heldBy : ['event'];
}

/** Of certificates whose issuance no journal has. */
const adoptedIssuance = 'adopted';

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
    issuanceId: adoptedIssuance,
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
  const rows = tx.find('shard', { series: seriesOf(shard) });
  const row = rows.find((candidate) => candidate.shard === shard);
  if (!row) throw new PkiError('bad-request', `the journals name shard ${shard} but do not define it`);
  tx.update('shard', { ...row, issued: row.issued + 1 }, row);
}
