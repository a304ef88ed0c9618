import { keyOf } from '../../core/model/certificate-id.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView } from '../api/certificate-store.ts';
import type { Correction, EnrolmentCode, HolderStore } from '../api/holder-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { bindAdopted } from './adopted.ts';
import { countDeskAct, deskLoads, deskLocks, reaches } from './desks.ts';
import { holderLocation, holderLocks, keyLock } from './holder-loads.ts';
import { isKnownHolder, knownHolderLoads } from './holders.ts';
import { answeredOnce } from './once.ts';
import { orderNotice } from './outbox.ts';
import { refuseClosed, standingOf, writeStanding } from './standing.ts';
import { certificateView } from './views.ts';

// The rules of corrections, enrolment codes, and adopted certificates.

export const proposeCorrection = answeredOnce<Parameters<HolderStore['proposeCorrection']>[0], Correction>({
  action: 'proposeCorrection',
  subject: ({ correctionId }) => ({ correctionId }),
  locks: ({ holderId, mandate }) => [exclusive('holder', holderId), ...deskLocks(mandate)],
  loads: ({ holderId, mandate }) => [
    ...knownHolderLoads(holderId),
    byKey('standing', { holderId }),
    byKey('holderTown', { holderId }),
    ...deskLoads(mandate),
  ],
  decide: ({ correctionId, holderId, note, scope, mandate }, tx, { nowMs }) => {
    if (!isKnownHolder(tx, holderId) || !reaches(tx, mandate, holderId, nowMs))
      throw new PkiError('not-found', 'no such holder');
    const standing = standingOf(tx, holderId);
    if (standing?.closedBy == null) throw new PkiError('illegal-transition', 'the holder is not closed');
    const row = {
      correctionId,
      holderId,
      note,
      closedBy: standing.closedBy,
      closedMs: standing.closedMs,
      state: 'proposed',
      proposedBy: scope.client,
      proposedMs: nowMs,
      approvedBy: null,
      approvedMs: null,
    };
    tx.insert('correction', row);
    return correctionView(row);
  },
});

type Decision = Parameters<HolderStore['approveCorrection']>[0];

function decideCorrection(
  state: 'approved' | 'withdrawn',
  act: (tx: Transaction, row: Row<'correction'>, nowMs: number) => void,
): Rule<Decision, Correction> {
  const holderOf = ({ correctionId }: Decision, located: RecordReader): string | undefined =>
    located.get('correction', { correctionId })?.holderId;
  return answeredOnce<Decision, Correction>({
    action: `${state}Correction`,
    subject: ({ correctionId }) => ({ correctionId }),
    locate: ({ correctionId }) => [byKey('correction', { correctionId })],
    locks: (input, located) => {
      const holderId = holderOf(input, located);
      return [
        ...(holderId === undefined ? [] : [exclusive('holder', holderId)]),
        ...deskLocks(input.mandate),
      ];
    },
    loads: ({ correctionId, mandate }) => [
      byKey('correction', { correctionId }, ({ holderId }) => [
        byKey('standing', { holderId }),
        byKey('holderTown', { holderId }),
      ]),
      ...deskLoads(mandate),
    ],
    decide: ({ correctionId, scope, mandate }, tx, { nowMs }) => {
      const row = tx.get('correction', { correctionId });
      if (!row || !reaches(tx, mandate, row.holderId, nowMs))
        throw new PkiError('not-found', 'no such correction');
      if (row.state !== 'proposed')
        throw new PkiError('illegal-transition', `the correction is ${row.state}, not proposed`);
      const isApproval = state === 'approved';
      if (isApproval && row.proposedBy === scope.client)
        throw new PkiError('forbidden', 'a correction is approved by another client than proposed it');
      act(tx, row, nowMs);
      const decided = isApproval ? { approvedBy: scope.client, approvedMs: nowMs } : {};
      const after = { ...row, state, ...decided };
      tx.update('correction', after, row);
      return correctionView(after);
    },
  });
}

export const approveCorrection = decideCorrection('approved', (tx, row, nowMs) => {
  const standing = standingOf(tx, row.holderId);
  if (standing?.closedBy !== row.closedBy || standing.closedMs !== row.closedMs)
    throw new PkiError(
      'illegal-transition',
      `the correction is about ${row.closedBy}, which is not what closes the holder now: propose another`,
    );
  writeStanding(tx, row.holderId, { ...standing, closedBy: null, reopens: null }, nowMs);
});

export const withdrawCorrection = decideCorrection('withdrawn', () => undefined);

export const giveCode = answeredOnce<Parameters<HolderStore['giveCode']>[0], EnrolmentCode>({
  action: 'giveCode',
  subject: ({ holderId }) => ({ holderId }),
  locate: ({ holderId }) => holderLocation(holderId),
  locks: ({ holderId, mediumId, codeHash, mandate }, located) => [
    ...deskLocks(mandate),
    ...holderLocks(holderId, located),
    exclusive('medium', mediumId),
    exclusive('code', hex(codeHash)),
  ],
  loads: ({ holderId, mediumId, mandate }) => [
    ...deskLoads(mandate),
    byKey('holderTown', { holderId }),
    byKey('medium', { mediumId }),
    byIndex('certificate', { holderId }),
    byKey('standing', { holderId }),
  ],
  decide: ({ scope, codeHash, holderId, mediumId, expiresMs, mandate }, tx, { nowMs }) => {
    const medium = tx.get('medium', { mediumId });
    countDeskAct(tx, mandate, nowMs);
    if (medium?.holderId !== holderId || !reaches(tx, mandate, holderId, nowMs))
      throw new PkiError('not-found', 'the holder has no such card');
    refuseClosed(tx, holderId, []);
    const card = tx
      .find('certificate', { holderId })
      .filter((row) => row.mediumId === mediumId && row.notAfterMs > nowMs && row.state !== 'revoked');
    if (card.some(({ kind }) => kind === 'card-signing'))
      throw new PkiError(
        'illegal-transition',
        'the card has a signing certificate, whose key signs for a phone',
      );
    const authentication = card.find(({ kind, state }) => kind === 'card-authentication' && state === 'good');
    if (!authentication)
      throw new PkiError('card-certificate-not-good', 'the card has no good authentication certificate');
    const client = scope.client;
    tx.insert('enrolmentCode', { codeHash, holderId, mediumId, client, expiresMs, usedBy: null });
    orderNotice(tx, authentication, { occasion: 'enrolment-code', nowMs });
    return { holderId, mediumId, expiresMs };
  },
});

export const bindToHolder = answeredOnce<Parameters<HolderStore['bindAdopted']>[0], CertificateView>({
  action: 'bindAdopted',
  subject: ({ key }) => ({ ...keyOf(key) }),
  locate: ({ key, restsOn }) =>
    [key, ...(restsOn ? [restsOn] : [])].map((each) => byKey('certificate', keyOf(each))),
  locks: ({ key, restsOn, keyHash, holderId, mediumId }, located) => {
    const certificates = [key, ...(restsOn ? [restsOn] : [])];
    const holders = certificates.map((each) => located.get('certificate', keyOf(each))?.holderId ?? holderId);
    return [
      ...[...new Set([holderId, ...holders])].map((id) => exclusive('holder', id)),
      ...certificates.map((each) => exclusive('certificate', ...Object.values(keyOf(each)))),
      exclusive('medium', mediumId),
      exclusive('adopted', ...Object.values(keyOf(key))),
      keyLock(keyHash),
    ];
  },
  loads: ({ key, keyHash, holderId, mediumId, restsOn }) => [
    byKey('certificate', keyOf(key)),
    ...(restsOn ? [byKey('certificate', keyOf(restsOn))] : []),
    byKey('adopted', keyOf(key)),
    byKey('standing', { holderId }),
    byKey('medium', { mediumId }),
    byKey('publicKey', { keyHash }),
    byKey('encoding', keyOf(key)),
    byKey('signature', keyOf(key)),
  ],
  decide: (command, tx, { nowMs }) => certificateView(tx, bindAdopted(tx, command, nowMs)),
});

export const correctionView = (row: Row<'correction'>): Correction => ({
  ...row,
  state: row.state as Correction['state'],
});
