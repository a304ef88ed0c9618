import { keyOf } from '../../core/model/certificate-id.ts';
import type { RecordedStatus } from '../../core/model/revocation.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, Medium } from '../api/certificate-store.ts';
import type { DeviceReported, HolderStore } from '../api/holder-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byKey, exclusive } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { endIfLost } from './activation.ts';
import { useChallenge } from './challenges.ts';
import {
  classLoads,
  classLocation,
  classLocks,
  enteredName,
  factsOf,
  namesFor,
  noteReport,
  reclassify,
  restrictedStatus,
  restrictionLoads,
} from './device-classes.ts';
import { challengeLock, holderLoads, holderLocation, holderLocks } from './holder-loads.ts';
import { answeredOnce } from './once.ts';
import { notify, orderDeletion } from './outbox.ts';
import { mediumView, statusOf } from './views.ts';

type Command = Parameters<HolderStore['reportDevice']>[0];

/** Reports of one phone within a day. */
const reportsMax = 24;
const dayMs = 86_400_000;

/** A phone on record, with what it says now. */
const phoneOf = (row: Row<'medium'>, { facts }: Command, isModelUnknown: boolean): Medium =>
  ({ ...mediumView(row), ...facts, isModelUnknown }) as Medium;

const isUnknown = (reader: RecordReader, mediumId: string): boolean =>
  reader.get('unknownModel', { mediumId }) !== undefined;

/** Names of the classes that a report may bring a phone to. */
function namesOf(command: Command, located: RecordReader): readonly string[] {
  const { mediumId, challengeHash } = command;
  const row = located.get('medium', { mediumId });
  if (!row) return [];
  const names = namesFor(phoneOf(row, command, isUnknown(located, mediumId)), located);
  return names.flatMap((name) => [name, enteredName(name, hex(challengeHash))]);
}

/** See `HolderStore.reportDevice`. */
export const reportDevice = answeredOnce<Command, DeviceReported>({
  action: 'reportDevice',
  subject: ({ mediumId }) => ({ mediumId }),
  locate: ({ holderId, mediumId }) => [
    ...holderLocation(holderId),
    byKey('medium', { mediumId }),
    byKey('unknownModel', { mediumId }),
    ...classLocation(mediumId),
  ],
  locks: (command, located) => [
    ...holderLocks(command.holderId, located),
    exclusive('medium', command.mediumId),
    challengeLock(command.challengeHash),
    ...classLocks(namesOf(command, located)),
  ],
  loads: (command, located) => [
    byKey('challenge', { challengeHash: command.challengeHash }),
    ...holderLoads(command.holderId),
    byKey('medium', { mediumId: command.mediumId }),
    byKey('phoneReport', { mediumId: command.mediumId }),
    ...restrictionLoads,
    ...classLoads(namesOf(command, located)),
  ],
  decide: (command, tx, { nowMs }) => {
    const { scope, actor, holderId, mediumId, signedWith, challengeHash } = command;
    useChallenge(tx, challengeHash, { scope, usedBy: actor.requestId, nowMs });
    const row = tx.get('medium', { mediumId });
    const signer = tx.get('certificate', keyOf(signedWith));
    const state = signer && statusOf(tx, signer).state;
    if (row?.holderId !== holderId || !signer || (state !== 'good' && state !== 'held'))
      throw new PkiError(
        'invalid-signed-request',
        `the signer’s certificate is ${state ?? 'another holder’s'} by now`,
      );
    refuseTooMany(tx, mediumId, nowMs);
    const phone = phoneOf(row, command, isUnknown(tx, mediumId));
    const { osVersion, patchLevel } = command.facts;
    tx.update('medium', { ...row, osVersion, patchLevel }, row);
    if (phone.type === 'phone') noteReport(tx, phone, nowMs, 'counted');
    const carried = tx.find('certificate', { holderId }).filter((each) => each.mediumId === mediumId);
    const before = new Map(carried.map((each) => [JSON.stringify(keyOf(each)), statusOf(tx, each)]));
    for (const each of reclassify(tx, phone, { nowMs, entered: hex(challengeHash) }))
      noteChange(tx, each, before.get(JSON.stringify(keyOf(each))), { actor, nowMs });
    const { appletVersion = null, appVersion = null } = factsOf(tx, phone);
    const after = statusOf(tx, signer).state;
    return { mediumId, osVersion, patchLevel, appletVersion, appVersion, state: after };
  },
});

/** A phone that reports all the time makes a class, and a row, each time. */
function refuseTooMany(reader: RecordReader, mediumId: string, nowMs: number): void {
  const row = reader.get('phoneReport', { mediumId });
  const isToday = row !== undefined && nowMs - row.countedSinceMs < dayMs;
  if (isToday && row.reports >= reportsMax)
    throw new PkiError(
      'quota-exceeded',
      `the phone has reported ${reportsMax} times within a day: try again tomorrow`,
    );
}

/** What of a certificate's status is another by what its phone has reported: a line of its history, and a notice. */
function noteChange(
  tx: Transaction,
  row: Row<'certificate'>,
  before: RecordedStatus | undefined,
  { actor, nowMs }: { readonly actor: Actor; readonly nowMs: number },
): void {
  const { state, reason } = statusOf(tx, row);
  if (state === before?.state || (state !== 'good' && state !== 'held' && state !== 'revoked')) return;
  const change = state === 'good' ? 'released' : state;
  const cause = { event: 'device-report', cascadedFrom: null, partOf: restrictionIn(tx, row, before) };
  tx.insert('history', {
    ...{ ...keyOf(row), writer: tx.writer, eventPosition: tx.heads.position, atMs: nowMs, change, reason },
    ...{ cause: JSON.stringify(cause), actor: JSON.stringify(actor) },
  });
  if (row.notify !== null) notify(tx, row, { occasion: change, reason, nowMs });
  if (state !== 'revoked') return;
  orderDeletion(tx, row, nowMs);
  endIfLost(tx, row.issuanceId);
}

/** The restriction that a certificate comes under, or has come out of. */
function restrictionIn(
  tx: Transaction,
  row: Row<'certificate'>,
  before: RecordedStatus | undefined,
): string | null {
  const now = restrictedStatus(tx, row);
  if (now?.state === 'revoked') return `restriction:${now.restrictionId}`;
  const of = now?.heldBy ?? before?.heldBy.filter((by) => by.startsWith('restriction:'));
  return of?.[0] ?? null;
}
