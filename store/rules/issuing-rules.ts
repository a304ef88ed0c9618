import type { Consequence } from '../../core/model/plan.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  Actor,
  CertificateDraft,
  CompleteCommand,
  Lease,
  ReserveCommand,
  ShardCommand,
  ShardPlaces,
  WantedIssuance,
} from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import { orderLoads } from './card-orders.ts';
import { deskLoads, deskLocks } from './desks.ts';
import {
  classLoads,
  classLocation,
  classLocks,
  namesFor,
  restrictionLoads,
  statusLoads,
} from './device-classes.ts';
import {
  challengeLock,
  holderLoads,
  holderLocation,
  holderLocks,
  issuanceLoads,
  keyLock,
  ownCertificateLocks,
  switchLoads,
  switchLocation,
  switchLocks,
} from './holder-loads.ts';
import { reportIds } from './life-events.ts';
import { requestLoad, requestLock } from './once.ts';
import { endLoads } from './own-ends.ts';
import { completeIssuance, previewReservation, reserveIssuance } from './reserve.ts';
import { identityLoads, identityLocks } from './same-person.ts';
import { openShard } from './shards.ts';

// The rules by which certificates come to be on record: leases, reserving, completing.

/** Positions that are left out after a failover: more than all nodes together have leased and not used up. An empty segment of an index takes no memory. */
const leftOut = 2 ** 24;

/** Name of the row that says on which server an authority's positions were leased last. */
const leasedOn = (authority: string): string => `leased-on:${authority}`;

/** See `CertificateStore.leasePositions`. */
export const leasePositions: Rule<{ readonly authority: string; readonly count: number }, Lease> = {
  action: 'lease',
  subject: ({ authority, count }) => ({ authority, count }),
  locks: ({ authority }) => [exclusive('positions', authority), exclusive('meta', leasedOn(authority))],
  loads: ({ authority }) => [
    byKey('meta', { name: leasedOn(authority) }),
    byIndex(
      'epoch',
      { authority },
      {
        options: { descending: true, limit: 1 },
        each: ({ epoch }) => [
          byIndex('lease', { authority, epoch }, { options: { descending: true, limit: 1 } }),
        ],
      },
    ),
  ],
  decide: ({ authority, count }, tx, { nowMs, server }) => {
    const epoch = tx.find('epoch', { authority }, { descending: true, limit: 1 }).at(0)?.epoch;
    if (epoch === undefined) throw new PkiError('not-found', `authority ${authority} has no epoch`);
    const [last] = tx.find('lease', { authority, epoch }, { descending: true, limit: 1 });
    // What was leased on the server before may not have reached this one.
    const first = (last?.end ?? 0) + (noteServer(tx, authority, server) ? leftOut : 0);
    const end = first + count;
    tx.insert('lease', { authority, epoch, first, end, writer: tx.writer, leasedMs: nowMs });
    return { epoch, first, end };
  },
};

/** Puts on record where positions are leased. Whether that is another server, or timeline, than the last time. */
function noteServer(tx: Transaction, authority: string, server: string | null): boolean {
  const name = leasedOn(authority);
  const before = tx.get('meta', { name });
  if (server === null || before?.value === server) return false;
  const after = { name, value: server };
  if (before) tx.update('meta', after, before);
  else tx.insert('meta', after);
  return before !== undefined;
}

/** Takes places on the newest shard of a series. Where that is full, `next` is opened, if it has the number that comes then. */
export const allocateFromShard: Rule<ShardCommand, ShardPlaces> = {
  action: 'leaseShard',
  subject: ({ series, places }) => ({ series, places }),
  locks: ({ series }) => [exclusive('shard', series)],
  loads: ({ series }) => [byIndex('shard', { series }, { options: { descending: true, limit: 1 } })],
  decide: ({ series, places, capacity, next }, tx) => {
    const [newest] = tx.find('shard', { series }, { descending: true, limit: 1 });
    const room = newest ? capacity - newest.issued : 0;
    if (newest && room > 0) {
      const taken = Math.min(places, room);
      tx.update('shard', { ...newest, issued: newest.issued + taken }, newest);
      return { shard: newest, places: taken };
    }
    const opens = newest ? newest.number + 1 : 0;
    if (next?.number !== opens) return { opens };
    const taken = Math.min(places, capacity);
    openShard(tx, next, taken);
    return { shard: next, places: taken };
  },
};

/** Keeps what encodings have in common, unless it is kept. */
export const keepEncodingBase: Rule<{ readonly baseId: Uint8Array; readonly octets: Uint8Array }, void> = {
  action: 'keepEncodingBase',
  subject: ({ baseId }) => ({ baseId: hex(baseId) }),
  locks: ({ baseId }) => [exclusive('encoding-base', hex(baseId))],
  loads: ({ baseId }) => [byKey('encodingBase', { baseId })],
  decide: (row, tx) => {
    tx.insertNew('encodingBase', row);
  },
};

/** The wrapped data key of a name: `wrapped`, unless there is one. */
export const dataKey: Rule<{ readonly name: string; readonly wrapped: Uint8Array }, Uint8Array> = {
  action: 'dataKey',
  subject: ({ name }) => ({ name }),
  locks: ({ name }) => [exclusive('data-key', name)],
  loads: ({ name }) => [byKey('dataKey', { name })],
  decide: ({ name, wrapped }, tx, { nowMs }) => {
    const row = tx.get('dataKey', { name });
    if (row) return row.wrappedKey;
    tx.insert('dataKey', { name, wrappedKey: wrapped, createdMs: nowMs });
    return wrapped;
  },
};

/** The holder of the card or phone on record, if it is issued to another holder now. */
const formerHolder = (
  { medium }: Pick<WantedIssuance, 'medium'>,
  located: RecordReader,
): string | undefined => {
  const known = located.get('medium', { mediumId: medium.mediumId });
  return known && known.holderId !== medium.holderId ? known.holderId : undefined;
};

const wantedLocation = (wanted: Pick<WantedIssuance, 'medium' | 'function'>): readonly Load[] => [
  switchLocation(wanted.function),
  ...holderLocation(wanted.medium.holderId),
  byKey('medium', { mediumId: wanted.medium.mediumId }, ({ holderId }) => holderLocation(holderId)),
  ...classLocation(wanted.medium.mediumId),
];

function wantedLocks(wanted: Omit<WantedIssuance, 'certificates'>, located: RecordReader): Lock[] {
  const { medium, succession, scope } = wanted;
  const former = formerHolder(wanted, located);
  const eventId = succession?.report?.eventId;
  return [
    ...switchLocks(wanted.function, located),
    ...deskLocks(wanted.mandate),
    ...identityLocks(wanted),
    ...holderLocks(medium.holderId, located),
    ...(former === undefined ? [] : holderLocks(former, located)),
    exclusive('medium', medium.mediumId),
    ...classLocks(namesFor(medium, located)),
    ...(succession?.target.type === 'medium' ? [exclusive('medium', succession.target.mediumId)] : []),
    ...(eventId == null ? [] : [exclusive('report', scope.client, eventId)]),
  ];
}

function wantedLoads(
  wanted: Omit<WantedIssuance, 'certificates'> & {
    readonly certificates: readonly Pick<CertificateDraft, 'authority' | 'keyHash'>[];
  },
  located: RecordReader,
): Load[] {
  const { medium, succession, scope } = wanted;
  const { mediumId, holderId } = medium;
  const former = formerHolder(wanted, located);
  const target = succession?.target;
  const eventId = succession?.report?.eventId;
  return [
    ...switchLoads(wanted.function, located),
    ...deskLoads(wanted.mandate),
    ...identityLoads(wanted),
    ...holderLoads(holderId),
    ...endLoads(holderId, wanted.mandate),
    ...orderLoads(wanted),
    byKey('medium', { mediumId }),
    byKey('unknownModel', { mediumId }),
    byIndex('movedDay', { mediumId }),
    byIndex('restriction', { state: 'in-force' }),
    ...classLoads(namesFor(medium, located)),
    ...restrictionLoads,
    byKey('phoneReport', { mediumId }),
    ...(former === undefined
      ? []
      : [
          byIndex('certificate', { holderId: former }, { each: statusLoads }),
          byIndex('message', { mediumId }),
        ]),
    ...(target?.type === 'medium' ? [byKey('medium', { mediumId: target.mediumId })] : []),
    ...(eventId == null ? [] : [byIndex('lifeEvent', { client: scope.client, eventId })]),
    ...wanted.certificates.flatMap(({ authority, keyHash }) => [
      byKey('authority', { authority }),
      byKey('publicKey', { keyHash }),
    ]),
  ];
}

/** See `CertificateStore.reserve`. */
export const reserve: Rule<ReserveCommand, void> = {
  action: 'reserve',
  subject: ({ issuanceId, medium }) => ({ issuanceId, mediumId: medium.mediumId }),
  actor: ({ actor }) => actor,
  locate: wantedLocation,
  locks: (command, located) => [
    requestLock(command.scope),
    exclusive('issuance', command.issuanceId),
    ...wantedLocks(command, located),
    ...command.certificates.map(({ keyHash }) => keyLock(keyHash)),
    ...(command.challengeHash ? [challengeLock(command.challengeHash)] : []),
    ...(command.codeHash ? [exclusive('code', hex(command.codeHash))] : []),
  ],
  loads: (command, located) => [
    requestLoad(command.scope),
    ...wantedLoads(command, located),
    byKey('lifeEvent', { entryId: command.issuanceId }),
    ...(command.challengeHash ? [byKey('challenge', { challengeHash: command.challengeHash })] : []),
    ...(command.codeHash ? [byKey('enrolmentCode', { codeHash: command.codeHash })] : []),
  ],
  decide: (command, tx, context) => reserveIssuance(tx, command, context),
};

/** See `CertificateStore.previewReserve`. */
export const previewReserve: Rule<WantedIssuance, Consequence & { readonly isAwaited: boolean }> = {
  action: 'preview',
  subject: () => ({}),
  locate: wantedLocation,
  locks: wantedLocks,
  loads: wantedLoads,
  decide: (wanted, tx, context) => previewReservation(tx, wanted, context),
};

/** The holder that something is issued to; null where it is a certificate of our own. */
const holderOfIssuance = (issuanceId: string, located: RecordReader): string | null =>
  located.find('certificate', { issuanceId })[0]?.holderId ?? null;

/** What locates an issuance: its certificates with their holder, and the request that it answers. */
export const issuanceLocation = (issuanceId: string): readonly Load[] => [
  byIndex(
    'certificate',
    { issuanceId },
    { each: ({ holderId }) => (holderId === null ? [] : holderLocation(holderId)) },
  ),
  byKey('reservation', { issuanceId }),
  ...reportIds(issuanceId).map((entryId) => byKey('lifeEvent', { entryId })),
];

/** Locks on what was reported with an issuance: it is forgotten where the issuance fails. */
const reportLocks = (issuanceId: string, located: RecordReader): readonly Lock[] =>
  reportIds(issuanceId).flatMap((entryId) => {
    const row = located.get('lifeEvent', { entryId });
    return row?.eventId == null ? [] : [exclusive('report', row.client, row.eventId)];
  });

/** See `CertificateStore.complete`. */
export const complete: Rule<CompleteCommand, ReturnType<typeof completeIssuance>> = {
  action: 'complete',
  subject: ({ issuanceId }) => ({ issuanceId }),
  actor: ({ actor }) => actor,
  locate: ({ issuanceId }) => issuanceLocation(issuanceId),
  locks: ({ issuanceId }, located) => [
    exclusive('issuance', issuanceId),
    ...holderLocks(holderOfIssuance(issuanceId, located), located),
    ...ownCertificateLocks(located.find('certificate', { issuanceId })),
    ...reportLocks(issuanceId, located),
    ...requestOf(issuanceId, located).map(requestLock),
  ],
  loads: ({ issuanceId }, located) => {
    const holderId = holderOfIssuance(issuanceId, located);
    return [
      byKey('reservation', { issuanceId }),
      ...issuanceLoads(issuanceId),
      ...(holderId === null ? [] : holderLoads(holderId)),
      ...requestOf(issuanceId, located).map(requestLoad),
    ];
  },
  decide: (command, tx, context) => completeIssuance(tx, command, context),
};

/** The request that a reservation answers. */
function requestOf(issuanceId: string, located: RecordReader) {
  const row = located.get('reservation', { issuanceId });
  return row ? [{ ...row, bodyHash: new Uint8Array(), expiresMs: 0 }] : [];
}

/** See `CertificateStore.releaseReservation`. */
export const releaseReservation: Rule<{ readonly issuanceId: string; readonly actor: Actor }, void> = {
  action: 'releaseReservation',
  subject: ({ issuanceId }) => ({ issuanceId }),
  actor: ({ actor }) => actor,
  locks: ({ issuanceId }) => [exclusive('issuance', issuanceId)],
  loads: ({ issuanceId }) => [byKey('reservation', { issuanceId })],
  decide: ({ issuanceId }, tx) => {
    const row = tx.get('reservation', { issuanceId });
    if (row) tx.update('reservation', { ...row, leaseUntilMs: 0 }, row);
  },
};
