import { PkiError } from '../../core/runtime/errors.ts';
import type { BulkOperation, OperationsStore, Restriction, Switch } from '../api/operations-store.ts';
import type { OperatorCommand } from '../api/outcome.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { announceEffect, currentCohort, effectsIn, restrictionLoads } from './device-classes.ts';
import { switchLoads, switchLocation, switchLocks } from './holder-loads.ts';
import { answeredOnce } from './once.ts';
import { restrictionView } from './restrictions.ts';
import { passSwitch, switchView } from './switches.ts';

// The rules of what operators set and propose.

/** See `OperationsStore.setSwitch`. */
export const setSwitch = answeredOnce<Parameters<OperationsStore['setSwitch']>[0], Switch>({
  action: 'setSwitch',
  subject: ({ name, state, perMinute }) => ({ name, state, perMinute }),
  locks: ({ name }) => [exclusive('switch', name)],
  loads: ({ name }) => [byKey('switch', { name })],
  decide: ({ name, state, perMinute, note, actor }, tx, { nowMs }) => {
    const row = { name, state, perMinute, note, changedMs: nowMs, changedBy: actor.client };
    const before = tx.get('switch', { name });
    if (before) tx.update('switch', row, before);
    else tx.insert('switch', row);
    return switchView(row);
  },
});

/** Enrolments read restrictions under a shared lock; a decision takes it exclusively, for one transaction. */
const restrictionLocks: readonly Lock[] = [exclusive('restrictions'), exclusive('mass-acts')];

const restrictionLoadsOf = (restrictionId: string): readonly Load[] => [
  byKey('restriction', { restrictionId }),
  byKey('restrictionEffect', { restrictionId }),
  byIndex('massAct', { restrictionId }),
  ...restrictionLoads,
];

const actLoads = (actId: string): readonly Load[] => [
  byKey('massAct', { actId }, ({ restrictionId }) => restrictionLoadsOf(restrictionId)),
];

function aboutRestriction<Input extends OperatorCommand>(rule: {
  readonly action: string;
  readonly subject: (input: Input) => Readonly<Record<string, unknown>>;
  readonly loads: (input: Input, located: RecordReader, writer: string) => readonly Load[];
  readonly locate?: () => readonly Load[];
  readonly locks?: (located: RecordReader) => readonly Lock[];
  readonly decide: (input: Input, tx: Transaction, nowMs: number) => Row<'restriction'>;
}): Rule<Input, Restriction> {
  return answeredOnce<Input, Restriction>({
    action: rule.action,
    subject: rule.subject,
    ...(rule.locate ? { locate: rule.locate } : {}),
    locks: (_input, located) => [...restrictionLocks, ...(rule.locks?.(located) ?? [])],
    loads: rule.loads,
    decide: (input, tx, { nowMs }) => restrictionView(tx, rule.decide(input, tx, nowMs)),
  });
}

/** See `OperationsStore.proposeRestriction`. */
export const proposeRestriction = aboutRestriction<Parameters<OperationsStore['proposeRestriction']>[0]>({
  action: 'proposeRestriction',
  subject: ({ restrictionId }) => ({ restrictionId }),
  loads: ({ restrictionId }) => restrictionLoadsOf(restrictionId),
  decide: (command, tx, nowMs) => {
    const { restrictionId, match, note, isEmergency = false } = command;
    const state = isEmergency ? 'in-force' : 'proposed';
    const row = { restrictionId, match: JSON.stringify(match), note, state, createdMs: nowMs };
    tx.insert('restriction', row);
    const act = proposal(tx, command, { restrictionId, action: 'hold', reason: null }, nowMs);
    if (isEmergency) takeEffect(tx, act, row, nowMs);
    tx.insert('massAct', { ...act, state: isEmergency ? 'running' : act.state });
    return row;
  },
});

/** See `OperationsStore.proposeEnd`. */
export const proposeEnd = aboutRestriction<Parameters<OperationsStore['proposeEnd']>[0]>({
  action: 'proposeEnd',
  subject: ({ restrictionId, action }) => ({ restrictionId, action }),
  loads: ({ restrictionId }) => restrictionLoadsOf(restrictionId),
  decide: (command, tx, nowMs) => {
    const { restrictionId, action, reason } = command;
    const row = tx.get('restriction', { restrictionId });
    if (!row) throw new PkiError('not-found', 'no such restriction');
    if (row.state !== 'in-force')
      throw new PkiError('illegal-transition', `the restriction is ${row.state}, not in force`);
    tx.insert('massAct', proposal(tx, command, { restrictionId, action, reason }, nowMs));
    return row;
  },
});

/** See `OperationsStore.approve`. */
export const approveBulkOperation = aboutRestriction<Parameters<OperationsStore['approve']>[0]>({
  action: 'approve',
  subject: ({ actId }) => ({ actId }),
  locate: () => [switchLocation('release')],
  locks: (located) => switchLocks('release', located),
  loads: ({ actId }, located) => [...actLoads(actId), ...switchLoads('release', located)],
  decide: ({ actId, actor }, tx, nowMs) => {
    const { act, restriction } = unapproved(tx, actId);
    if (act.proposedBy === actor.client)
      throw new PkiError('forbidden', 'a bulk operation is approved by another client than proposed it');
    const by = { approvedBy: actor.client, approvedMs: nowMs };
    if (act.state !== 'proposed') {
      tx.update('massAct', { ...act, ...by }, act);
      return restriction;
    }
    const wanted = act.action === 'hold' ? 'proposed' : 'in-force';
    if (restriction.state !== wanted)
      throw new PkiError('illegal-transition', `the restriction is ${restriction.state}`);
    if (act.action === 'release') passSwitch(tx, 'release', nowMs);
    const acts = tx.find('massAct', { restrictionId: act.restrictionId });
    if (acts.some(({ state }) => state === 'running'))
      throw new PkiError('illegal-transition', 'another bulk operation of the restriction is still running');
    takeEffect(tx, act, restriction, nowMs);
    const approved = { ...act, state: 'running', ...by };
    tx.update('massAct', approved, act);
    // No phone that matches enrols any more, from this moment on, until the restriction has ended.
    const after = { ...restriction, state: act.action === 'release' ? 'ended' : 'in-force' };
    tx.update('restriction', after, restriction);
    return after;
  },
});

/** Has what was approved happen to all phones that match, at once: nothing is written of them. */
function takeEffect(
  tx: Transaction,
  { action, reason }: Pick<Row<'massAct'>, 'action' | 'reason'>,
  { restrictionId, match }: Row<'restriction'>,
  nowMs: number,
): void {
  const before = tx.get('restrictionEffect', { restrictionId });
  if (!before && action !== 'hold')
    throw new PkiError('record-unavailable', 'what the restriction does is not on record: restore a backup');
  if (!before) {
    const none = { endedMs: null, revokedMs: null, reason: null, lastCohort: null };
    const held = { restrictionId, state: 'in-effect', version: 1, match, heldMs: nowMs, ...none };
    tx.insert('restrictionEffect', held);
    announceEffect(tx, held);
    return;
  }
  if (action === 'revoke' && before.revokedMs !== null)
    throw new PkiError('illegal-transition', 'the restriction has revoked what it holds already');
  const after = { ...before, version: before.version + 1 };
  if (action === 'revoke') Object.assign(after, { revokedMs: nowMs, reason });
  else Object.assign(after, ended(tx, before, nowMs));
  tx.update('restrictionEffect', after, before);
  announceEffect(tx, after);
}

/** How a restriction ends: what it has revoked stays revoked, and it does not apply to what is issued from now on. */
function ended(
  tx: Transaction,
  { revokedMs, heldMs }: Row<'restrictionEffect'>,
  nowMs: number,
): Partial<Row<'restrictionEffect'>> {
  if (revokedMs !== null) return { endedMs: nowMs, lastCohort: currentCohort(tx) };
  // What another has revoked meanwhile keeps the time of the earliest hold, which may be of this one.
  const isPast = effectsIn(tx).every((other) => (other.revokedMs ?? 0) < heldMs);
  return { endedMs: nowMs, state: isPast ? 'over' : 'in-effect' };
}

/** See `OperationsStore.withdraw`. */
export const withdrawBulkOperation = aboutRestriction<Parameters<OperationsStore['withdraw']>[0]>({
  action: 'withdraw',
  subject: ({ actId }) => ({ actId }),
  loads: ({ actId }) => actLoads(actId),
  decide: ({ actId }, tx) => {
    const { act, restriction } = proposed(tx, actId);
    tx.update('massAct', { ...act, state: 'withdrawn' }, act);
    const after = { ...restriction, state: act.action === 'hold' ? 'withdrawn' : restriction.state };
    tx.update('restriction', after, restriction);
    return after;
  },
});

function proposal(
  tx: Transaction,
  { actor }: OperatorCommand,
  act: Pick<BulkOperation, 'restrictionId' | 'action' | 'reason'>,
  nowMs: number,
): Row<'massAct'> {
  return {
    ...act,
    actId: tx.newId(nowMs),
    state: 'proposed',
    proposedBy: actor.client,
    proposedMs: nowMs,
    approvedBy: null,
    approvedMs: null,
    cursor: null,
    phones: 0,
    certificates: 0,
    finishedMs: null,
  };
}

interface OfRestriction {
  readonly act: Row<'massAct'>;
  readonly restriction: Row<'restriction'>;
}

function proposed(tx: Transaction, actId: string): OfRestriction {
  const found = unapproved(tx, actId);
  if (found.act.state !== 'proposed')
    throw new PkiError('illegal-transition', `the bulk operation is ${found.act.state} already`);
  return found;
}

/** An operation that waits for its approval, or runs without one. */
function unapproved(tx: Transaction, actId: string): OfRestriction {
  const act = tx.get('massAct', { actId });
  const restriction = act && tx.get('restriction', { restrictionId: act.restrictionId });
  if (!act || !restriction) throw new PkiError('not-found', 'no such bulk operation');
  if (act.approvedBy !== null || act.state === 'withdrawn')
    throw new PkiError('illegal-transition', `the bulk operation is ${act.state} already`);
  return { act, restriction };
}
