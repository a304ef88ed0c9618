import { actorOfNode } from '../../core/model/act.ts';
import { ApprovalNeeded } from '../../core/model/approval.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { Consequence, Target } from '../../core/model/plan.ts';
import { hex } from '../../core/runtime/bytes.ts';
import type { PkiError } from '../../core/runtime/errors.ts';
import type { BlockKeyCommand, ChangeCommand, ChangeOutcome } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import { block, certifiedAs } from './blocked-keys.ts';
import { deskLoads, deskLocks } from './desks.ts';
import { applyPlan, changeHolder, emptyPlan, planned } from './holder-change.ts';
import {
  challengeLock,
  holderLoads,
  holderLocation,
  holderLocks,
  holderOfTarget,
  keyLock,
  ownCertificateLocks,
  switchLoads,
  switchLocation,
  switchLocks,
  targetLoads,
} from './holder-loads.ts';
import { issuanceLocation } from './issuing-rules.ts';
import { hasEnded, settleShortened } from './moved-days.ts';
import { answeredOnce, requestLoad, requestLock } from './once.ts';
import { checkedPlan } from './policy/plan-hash.ts';
import { countRevocation, revocationLoads, revocationLocks } from './revocations-alone.ts';
import { carryOut, endPredecessors } from './succession.ts';

// The rules by which certificates on record change: events, single changes, blocked keys, and what ends with time.

const targetLocation = (target: Target): readonly Load[] => {
  if (target.type === 'holder') return [...holderLocation(target.holderId), ...targetLoads(target)];
  const each = ({ holderId }: { readonly holderId: string | null }): readonly Load[] =>
    holderId === null ? [] : holderLocation(holderId);
  return target.type === 'medium'
    ? [byKey('medium', { mediumId: target.mediumId }, each)]
    : [byKey('certificate', keyOf(target.key), each)];
};

function targetLocks(target: Target, located: RecordReader): readonly Lock[] {
  const row = target.type === 'certificate' ? located.get('certificate', keyOf(target.key)) : undefined;
  return [
    ...(target.type === 'medium' ? [exclusive('medium', target.mediumId)] : []),
    ...holderLocks(holderOfTarget(target, located), located),
    ...ownCertificateLocks(row ? [row] : []),
  ];
}

function targetRows(target: Target, located: RecordReader): readonly Load[] {
  const holderId = holderOfTarget(target, located);
  return [...targetLoads(target), ...(holderId === null ? [] : holderLoads(holderId))];
}

const reportLocks = ({ scope, report }: Pick<ChangeCommand, 'scope' | 'report'>): readonly Lock[] =>
  report?.eventId == null ? [] : [exclusive('report', scope.client, report.eventId)];

const reportLoads = ({ scope, report }: Pick<ChangeCommand, 'scope' | 'report'>): readonly Load[] =>
  report?.eventId == null ? [] : [byIndex('lifeEvent', { client: scope.client, eventId: report.eventId })];

/** A client that acts, with what it may revoke alone. */
const revoker = ({ scope, mandate }: Pick<ChangeCommand, 'scope' | 'mandate'>) => ({
  client: scope.client,
  max: mandate?.revocationsMax,
});

/** See `CertificateStore.change`. A refusal that leaves a trace is an outcome. */
export const change: Rule<ChangeCommand, ChangeOutcome | PkiError> = {
  action: 'change',
  subject: ({ target }) => ({ target }),
  actor: ({ actor }) => actor,
  locate: ({ target }) => [switchLocation('release'), ...targetLocation(target)],
  locks: (command, located) => [
    requestLock(command.scope),
    ...targetLocks(command.target, located),
    ...switchLocks('release', located),
    ...reportLocks(command),
    ...deskLocks(command.mandate),
    ...revocationLocks(revoker(command)),
    ...(command.challengeHash ? [challengeLock(command.challengeHash)] : []),
    ...(command.applet ? [exclusive('medium', command.applet.mediumId)] : []),
  ],
  loads: (command, located) => [
    requestLoad(command.scope),
    ...targetRows(command.target, located),
    ...switchLoads('release', located),
    ...reportLoads(command),
    ...deskLoads(command.mandate),
    ...revocationLoads(revoker(command)),
    ...(command.challengeHash ? [byKey('challenge', { challengeHash: command.challengeHash })] : []),
    ...(command.applet ? [byKey('applet', { issuanceId: command.applet.issuanceId })] : []),
  ],
  decide: (command, tx, context) => changeHolder(tx, command, context),
};

/** See `CertificateStore.preview`. */
export const previewChange: Rule<
  Pick<ChangeCommand, 'target' | 'plan' | 'report' | 'mandate'>,
  Consequence
> = {
  action: 'preview',
  subject: () => ({}),
  locate: ({ target }) => targetLocation(target),
  locks: ({ target, mandate }, located) => [...targetLocks(target, located), ...deskLocks(mandate)],
  loads: ({ target, mandate }, located) => [...targetRows(target, located), ...deskLoads(mandate)],
  decide: (command, tx, context) => planned(tx, command, context),
};

const keyLocation = (keyHash: Uint8Array): readonly Load[] => [
  byKey('publicKey', { keyHash }, (row) => {
    const key = certifiedAs(row);
    return key ? targetLocation({ type: 'certificate', key }) : [];
  }),
];

/** The certificate that a public key is in, as it was located. */
function targetOfKey(keyHash: Uint8Array, located: RecordReader): Target | undefined {
  const row = located.get('publicKey', { keyHash });
  const key = row && certifiedAs(row);
  return key && { type: 'certificate', key };
}

const blocker = ({ scope, revocationsMax }: Pick<BlockKeyCommand, 'scope' | 'revocationsMax'>) => ({
  // A preview counts nothing, and has no scope.
  client: scope?.client ?? '',
  max: revocationsMax,
});

const blockedKey: Rule<BlockKeyCommand, ChangeOutcome> = {
  action: 'blockKey',
  subject: ({ keyHash }) => ({ keyHash: hex(keyHash) }),
  locate: ({ keyHash }) => keyLocation(keyHash),
  locks: (command, located) => {
    const target = targetOfKey(command.keyHash, located);
    return [
      keyLock(command.keyHash),
      ...(target ? targetLocks(target, located) : []),
      ...revocationLocks(blocker(command)),
    ];
  },
  loads: (command, located) => {
    const { keyHash } = command;
    const target = targetOfKey(keyHash, located);
    return [
      byKey('publicKey', { keyHash }),
      ...(target ? targetRows(target, located) : []),
      ...revocationLoads(blocker(command)),
    ];
  },
  decide: (command, tx, context) => {
    const { nowMs, decidedMs } = context;
    const knownByMs = decidedMs + command.knownAfterMs;
    if (command.approvalsWanted?.includes('unknown-key') && !tx.get('publicKey', command))
      throw new ApprovalNeeded('unknown-key');
    const key = block(tx, command.keyHash, nowMs);
    if (!key) return { ...checkedPlan(command, { ...emptyPlan, changes: [] }), knownByMs };
    const target = { type: 'certificate', key } as const;
    const plan = { type: 'blocked-key', key } as const;
    const consequence = checkedPlan(command, planned(tx, { target, plan }, context));
    countRevocation(tx, consequence, blocker(command), nowMs);
    applyPlan(tx, consequence, { target, report: null, actor: command.actor, nowMs });
    return { ...consequence, knownByMs };
  },
};

/** See `CertificateStore.blockKey`. */
export const blockKey = answeredOnce(blockedKey);

/** See `CertificateStore.previewBlock`. */
export const previewBlock: Rule<Pick<BlockKeyCommand, 'keyHash'>, Consequence> = {
  ...blockedKey,
  action: 'preview',
  subject: () => ({}),
  locate: ({ keyHash }) => keyLocation(keyHash),
  locks: (command, ...at) => blockedKey.locks(command as BlockKeyCommand, ...at),
  loads: (command, ...at) => blockedKey.loads(command as BlockKeyCommand, ...at),
  decide: ({ keyHash }, tx, context) => {
    const row = tx.get('publicKey', { keyHash });
    const key: CertificateId | undefined = row && certifiedAs(row);
    if (!key) return { ...emptyPlan, changes: [] };
    return planned(tx, { target: { type: 'certificate', key }, plan: { type: 'blocked-key', key } }, context);
  },
};

/** Ends the predecessors of an issuance whose overlap has passed. */
export const endOverlap: Rule<{ readonly issuanceId: string; readonly holderId: string }, void> = {
  action: 'endOverlap',
  subject: ({ issuanceId }) => ({ issuanceId }),
  locate: ({ issuanceId, holderId }) => [...issuanceLocation(issuanceId), ...holderLocation(holderId)],
  locks: ({ holderId }, located) => holderLocks(holderId, located),
  loads: ({ holderId }) => holderLoads(holderId),
  decide: ({ issuanceId }, tx, context) =>
    endPredecessors(tx, { issuanceId, actor: actorOfNode(tx.writer), ...context }),
};

/** Carries out what becomes of an issuance that was not confirmed in time. */
export const endWait: Rule<
  { readonly issuanceId: string; readonly holderId: string; readonly unconfirmed: 'revoke' | 'activate' },
  void
> = {
  action: 'endWait',
  subject: ({ issuanceId }) => ({ issuanceId }),
  locate: ({ holderId }) => holderLocation(holderId),
  locks: ({ holderId }, located) => holderLocks(holderId, located),
  loads: ({ holderId }) => holderLoads(holderId),
  decide: ({ issuanceId, holderId, unconfirmed }, tx, context) => {
    const plan = { type: 'unconfirmed', issuanceId, unconfirmed, event: 'not-confirmed-in-time' } as const;
    carryOut(tx, { target: { type: 'holder', holderId }, plan }, context);
  },
};

/** Ends what outlives a card whose last day was moved forward and has passed. */
export const endShortened: Rule<{ readonly mediumId: string }, void> = {
  action: 'endShortened',
  subject: ({ mediumId }) => ({ mediumId }),
  locate: ({ mediumId }) => targetLocation({ type: 'medium', mediumId }),
  locks: ({ mediumId }, located) => targetLocks({ type: 'medium', mediumId }, located),
  loads: ({ mediumId }, located) => targetRows({ type: 'medium', mediumId }, located),
  decide: ({ mediumId }, tx, context) => {
    const { nowMs } = context;
    const plan = { type: 'card-ended', mediumId } as const;
    if (hasEnded(tx, mediumId, nowMs)) carryOut(tx, { target: { type: 'medium', mediumId }, plan }, context);
    settleShortened(tx, mediumId, nowMs);
  },
};
