import { keyOf } from '../../core/model/certificate-id.ts';
import type { DeviceFacts } from '../../core/model/device.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, Medium } from '../api/certificate-store.ts';
import type { DeviceReported, HolderStore } from '../api/holder-store.ts';
import type { Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Load } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { endIfLost } from './activation.ts';
import { useChallenge } from './challenges.ts';
import { classesOf, factsOf, noteReport, reclassify } from './device-classes.ts';
import { challengeLock, holderLoads, holderLocation, holderLocks } from './holder-loads.ts';
import { answeredOnce } from './once.ts';
import { notify, orderDeletion } from './outbox.ts';
import { mediumView, statusOf } from './views.ts';

type Command = Parameters<HolderStore['reportDevice']>[0];

/** A phone on record, with what it says now. */
const phoneOf = (row: Row<'medium'>, { facts }: Command, isModelUnknown: boolean): Medium =>
  ({ ...mediumView(row), ...facts, patchLevel: facts.patchLevel, isModelUnknown }) as Medium;

/** The classes that a report may bring a phone to. */
const newClasses = (command: Command): readonly Load[] => [
  byKey('medium', { mediumId: command.mediumId }, (row) => [
    byKey('phoneReport', { mediumId: row.mediumId }, (report) =>
      bothModels((isUnknown) => withKnown(phoneOf(row, command, isUnknown), report)),
    ),
    ...bothModels((isUnknown) => phoneOf(row, command, isUnknown)),
  ]),
];

/** Whether a phone's model is unknown is on record elsewhere. */
const bothModels = (facts: (isModelUnknown: boolean) => DeviceFacts): readonly Load[] =>
  [true, false].flatMap((isUnknown) => classesOf(facts(isUnknown)));

const withKnown = (phone: DeviceFacts, { appletVersion, appVersion }: Row<'phoneReport'>): DeviceFacts => ({
  ...phone,
  appletVersion: phone.appletVersion ?? appletVersion,
  appVersion: phone.appVersion ?? appVersion,
});

/** See `HolderStore.reportDevice`. */
export const reportDevice = answeredOnce<Command, DeviceReported>({
  action: 'reportDevice',
  subject: ({ mediumId }) => ({ mediumId }),
  locate: ({ holderId }) => holderLocation(holderId),
  locks: ({ holderId, mediumId, challengeHash }, located) => [
    ...holderLocks(holderId, located),
    exclusive('medium', mediumId),
    challengeLock(challengeHash),
  ],
  loads: (command) => [
    byKey('challenge', { challengeHash: command.challengeHash }),
    ...holderLoads(command.holderId),
    ...newClasses(command),
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
    const phone = phoneOf(row, command, tx.get('unknownModel', { mediumId }) !== undefined);
    const { osVersion, patchLevel } = command.facts;
    tx.update('medium', { ...row, osVersion, patchLevel }, row);
    if (phone.type === 'phone') noteReport(tx, phone, nowMs);
    const carried = tx.find('certificate', { holderId }).filter((each) => each.mediumId === mediumId);
    const before = carried.map((each) => statusOf(tx, each).state);
    reclassify(tx, phone, nowMs);
    for (const [i, each] of carried.entries()) noteChange(tx, each, before[i], { actor, nowMs });
    const { appletVersion = null, appVersion = null } = factsOf(tx, phone);
    const after = statusOf(tx, signer).state;
    return { mediumId, osVersion, patchLevel, appletVersion, appVersion, state: after };
  },
});

/** What of a certificate's status is another by what its phone has reported: a line of its history, and a notice. */
function noteChange(
  tx: Transaction,
  row: Row<'certificate'>,
  before: string | undefined,
  { actor, nowMs }: { readonly actor: Actor; readonly nowMs: number },
): void {
  const { state, reason } = statusOf(tx, row);
  if (state === before || (state !== 'good' && state !== 'held' && state !== 'revoked')) return;
  const change = state === 'good' ? 'released' : state;
  const cause = { event: 'device-report', cascadedFrom: null, partOf: null };
  tx.insert('history', {
    ...{ ...keyOf(row), writer: tx.writer, eventPosition: tx.heads.position, atMs: nowMs, change, reason },
    ...{ cause: JSON.stringify(cause), actor: JSON.stringify(actor) },
  });
  if (row.notify !== null) notify(tx, row, { occasion: change, reason, nowMs });
  if (state !== 'revoked') return;
  orderDeletion(tx, row, nowMs);
  endIfLost(tx, row.issuanceId);
}
