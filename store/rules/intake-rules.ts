import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { slotOfAuthority } from '../../core/model/kinds.ts';
import { whyInactive } from '../../core/model/verifier.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Intake, IntakeState, IntakeStore } from '../api/intake-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule, shared } from '../engine/rule.ts';
import type { Key, Row } from '../schema/schema.ts';
import { isKeyLeaked } from './links.ts';
import { answeredOnce } from './once.ts';
import { verifierLoads, verifierView } from './verifiers.ts';
import {
  addWatch,
  certificateLoads,
  certificateLocks,
  locateHolder,
  watchLoads,
  watchLocks,
} from './watch-rules.ts';

// The rules of intakes. The list is closed before the sample is drawn, so that no one can fit one to the other; what two people accept is
// that list, and the verifier may not leave it for another one by itself once it knows the sample.

type OfStore<T extends keyof IntakeStore> = IntakeStore[T] extends (command: infer C) => unknown ? C : never;

const intakesLock = (verifierId: string): Lock => exclusive('intakes', verifierId);
const entriesLock = (intakeId: string): Lock => exclusive('intake', intakeId);

const locateIntake = ({ intakeId }: { readonly intakeId: string }): readonly Load[] => [
  byKey('intake', { intakeId }),
];
const rowLocks = ({ intakeId }: { readonly intakeId: string }, located: RecordReader): readonly Lock[] => {
  const row = located.get('intake', { intakeId });
  return row ? [intakesLock(row.verifierId)] : [];
};
/** Of an intake and its entries. */
const locksOf = (of: { readonly intakeId: string }, located: RecordReader): readonly Lock[] => [
  entriesLock(of.intakeId),
  ...rowLocks(of, located),
];

export const intakeView = ({ work: _, ...row }: Row<'intake'>): Intake => ({
  ...row,
  state: row.state as IntakeState,
});

/** An intake, of that verifier where one asks, in one of those states. Throws `not-found` and `illegal-transition`. */
function intakeIn(
  tx: Transaction,
  { intakeId, verifierId }: { readonly intakeId: string; readonly verifierId: string | null },
  states: readonly IntakeState[],
): Row<'intake'> {
  const row = tx.get('intake', { intakeId });
  if (!row || (verifierId !== null && row.verifierId !== verifierId))
    throw new PkiError('not-found', 'no such intake');
  if (!states.some((state) => state === row.state))
    throw new PkiError('illegal-transition', `the intake is ${row.state}, not ${states.join(' or ')}`);
  return row;
}

function write(tx: Transaction, row: Row<'intake'>, before: Row<'intake'>): Intake {
  tx.update('intake', row, before);
  return intakeView(row);
}

/** See `IntakeStore.begin`. */
export const beginIntake = answeredOnce<OfStore<'begin'>, Intake>({
  action: 'beginIntake',
  subject: ({ intakeId, verifierId }) => ({ intakeId, verifierId }),
  locks: ({ verifierId }) => [intakesLock(verifierId)],
  loads: ({ verifierId }) => [byIndex('intake', { verifierId })],
  decide: ({ intakeId, verifierId, statement }, tx, { nowMs }) => {
    // One whose entries are still being removed, too: what waits is bounded.
    const other = tx
      .find('intake', { verifierId })
      .find(({ state, work }) => work !== null || (state !== 'done' && state !== 'ended'));
    if (other)
      throw new PkiError(
        'in-use',
        `intake ${other.intakeId} is ${other.state}: have it accepted or ended before another one`,
      );
    const row: Row<'intake'> = {
      ...{ intakeId, verifierId, statement, state: 'open', entries: 0, sampled: 0, shown: 0 },
      ...{ watched: 0, leftOut: 0, begunMs: nowMs, changedMs: nowMs, work: null },
    };
    tx.insert('intake', row);
    return intakeView(row);
  },
});

/** See `IntakeStore.add`. */
export const addEntries = answeredOnce<OfStore<'add'>, Intake>({
  action: 'addIntakeEntries',
  subject: ({ intakeId, entries }) => ({ intakeId, entries: entries.length }),
  locate: locateIntake,
  locks: locksOf,
  loads: ({ intakeId, entries }) => [
    byKey('intake', { intakeId }),
    ...entries.map(({ key }) => byKey('intakeEntry', { intakeId, ...keyOf(key) })),
  ],
  decide: ({ entries, max, ...of }, tx, { nowMs }) => {
    const before = intakeIn(tx, of, ['open']);
    let number = before.entries;
    for (const { key, reference } of entries) {
      const row = { intakeId: of.intakeId, ...keyOf(key), number, reference, sample: null };
      if (tx.insertNew('intakeEntry', row)) number += 1;
    }
    if (number > max)
      throw new PkiError('quota-exceeded', `an intake of this verifier has at most ${max} certificates`);
    return write(tx, { ...before, entries: number, changedMs: nowMs }, before);
  },
});

/** See `IntakeStore.draw`. `entries`: among how many the numbers were drawn. */
export const drawSample = answeredOnce<
  OfStore<'draw'> & { readonly entries: number; readonly numbers: readonly number[] },
  Intake
>({
  action: 'drawIntakeSample',
  subject: ({ intakeId, numbers }) => ({ intakeId, numbers: numbers.length }),
  locate: locateIntake,
  locks: locksOf,
  loads: ({ intakeId, numbers }) => [
    byKey('intake', { intakeId }),
    ...numbers.map((number) => byIndex('intakeEntry', { intakeId, number })),
  ],
  decide: ({ intakeId, verifierId, entries, numbers }, tx, { nowMs }) => {
    const before = intakeIn(tx, { intakeId, verifierId }, ['open']);
    if (before.entries === 0) throw new PkiError('bad-request', 'the intake has no certificates yet');
    if (before.entries !== entries)
      throw new PkiError('illegal-transition', 'certificates were added meanwhile: ask again');
    for (const number of numbers)
      for (const entry of tx.find('intakeEntry', { intakeId, number }))
        tx.update('intakeEntry', { ...entry, sample: 1 }, entry);
    return write(tx, { ...before, state: 'sampled', sampled: numbers.length, changedMs: nowMs }, before);
  },
});

/** See `IntakeStore.show`. */
export const showSignatures = answeredOnce<OfStore<'show'>, Intake>({
  action: 'showIntakeSignatures',
  subject: ({ intakeId, signatures }) => ({ intakeId, signatures: signatures.map(({ sha256 }) => sha256) }),
  locate: locateIntake,
  locks: locksOf,
  loads: ({ intakeId, signatures }) => [
    byKey('intake', { intakeId }),
    ...signatures.map(({ key }) => byKey('intakeEntry', { intakeId, ...keyOf(key) })),
  ],
  decide: ({ intakeId, verifierId, signatures }, tx, { nowMs }) => {
    const before = intakeIn(tx, { intakeId, verifierId }, ['sampled', 'shown']);
    let shown = before.shown;
    for (const { key } of signatures) {
      const entry = tx.get('intakeEntry', { intakeId, ...keyOf(key) });
      if (!entry?.sample) throw new PkiError('bad-request', 'signatures: one is of none that was drawn');
      if (entry.sample === 2) continue;
      tx.update('intakeEntry', { ...entry, sample: 2 }, entry);
      shown += 1;
    }
    const state = shown === before.sampled ? 'shown' : 'sampled';
    return write(tx, { ...before, shown, state, changedMs: nowMs }, before);
  },
});

/** See `IntakeStore.accept`. */
export const acceptIntake = answeredOnce<OfStore<'accept'>, Intake>({
  action: 'acceptIntake',
  subject: ({ intakeId }) => ({ intakeId }),
  locate: locateIntake,
  locks: (input, located) => {
    const verifierId = located.get('intake', { intakeId: input.intakeId })?.verifierId;
    const ofVerifier = verifierId === undefined ? [] : [shared('verifier', verifierId)];
    return [...rowLocks(input, located), ...ofVerifier];
  },
  loads: (input, located) => {
    const verifierId = located.get('intake', { intakeId: input.intakeId })?.verifierId;
    return [...locateIntake(input), ...(verifierId === undefined ? [] : verifierLoads(verifierId))];
  },
  decide: ({ intakeId }, tx, { nowMs }) => {
    const before = intakeIn(tx, { intakeId, verifierId: null }, ['shown']);
    const verifier = tx.get('verifier', { verifierId: before.verifierId });
    const why = verifier ? whyInactive(verifier, nowMs) : 'it is not on record';
    if (why !== undefined) throw new PkiError('forbidden', `the verifier may ask nothing now: ${why}`);
    return write(tx, { ...before, state: 'accepted', work: 'take', changedMs: nowMs }, before);
  },
});

/** See `IntakeStore.end`. */
export const endIntake = answeredOnce<OfStore<'end'>, Intake>({
  action: 'endIntake',
  subject: ({ intakeId }) => ({ intakeId }),
  locate: locateIntake,
  locks: rowLocks,
  loads: locateIntake,
  decide: ({ intakeId, verifierId }, tx, { nowMs }) => {
    const states = verifierId === null ? (['open', 'sampled', 'shown'] as const) : (['open'] as const);
    const before = intakeIn(tx, { intakeId, verifierId }, states);
    return write(tx, { ...before, state: 'ended', work: 'remove', changedMs: nowMs }, before);
  },
});

/** An entry of an accepted intake. */
interface Taken {
  readonly intakeId: string;
  readonly key: CertificateId;
  /** Certificates that a verifier may watch whose own entry on the register says nothing else. */
  readonly max: number;
}

const verifierOf = ({ intakeId }: Taken, located: RecordReader): string | undefined =>
  located.get('intake', { intakeId })?.verifierId;

/** Has a certificate of an accepted intake watched, unless it may not be by now. */
export const takeEntry: Rule<Taken, void> = {
  action: 'takeIntakeEntry',
  subject: ({ intakeId, key }) => ({ intakeId, ...keyOf(key) }),
  locate: (input) => [...locateIntake(input), ...locateHolder(input)],
  locks: (input, located) => {
    const verifierId = verifierOf(input, located);
    const ofVerifier =
      verifierId === undefined ? [] : [...watchLocks(verifierId), shared('verifier', verifierId)];
    return [...locksOf(input, located), ...certificateLocks(input, located), ...ofVerifier];
  },
  loads: (input, located) => {
    const { intakeId, key } = input;
    const verifierId = verifierOf(input, located);
    return [
      ...locateIntake(input),
      byKey('intakeEntry', { intakeId, ...keyOf(key) }),
      ...certificateLoads(input, located),
      ...(verifierId === undefined ? [] : [...watchLoads(verifierId, key), ...verifierLoads(verifierId)]),
    ];
  },
  decide: ({ intakeId, key, max }, tx, { nowMs }) => {
    const before = tx.get('intake', { intakeId });
    const entry = tx.get('intakeEntry', { intakeId, ...keyOf(key) });
    if (!entry || before?.work !== 'take') return;
    tx.remove('intakeEntry', { intakeId, ...keyOf(key) });
    const isWatched = watchOf(tx, entry, { verifierId: before.verifierId, max, nowMs });
    const counted = isWatched ? { watched: before.watched + 1 } : { leftOut: before.leftOut + 1 };
    tx.update('intake', { ...before, ...counted, changedMs: nowMs }, before);
  },
};

/** Whether a certificate is watched from now on: one that is on record, of the verifier's kinds, and whose key has not leaked. */
function watchOf(
  tx: Transaction,
  entry: Row<'intakeEntry'>,
  { verifierId, max, nowMs }: { readonly verifierId: string; readonly max: number; readonly nowMs: number },
): boolean {
  const certificate = tx.get('certificate', keyOf(entry));
  const verifier = tx.get('verifier', { verifierId });
  const slot = slotOfAuthority(entry.authority);
  if (!certificate || certificate.holderId === null || !verifier || slot === undefined) return false;
  if (isKeyLeaked(tx, certificate)) return false;
  if (!verifierView(tx, verifier).kinds.includes(slot)) return false;
  // One that is watched already keeps its reference where the intake says none.
  const known = tx.get('watchDetail', { verifier: verifierId, ...keyOf(entry) });
  const reference = entry.reference ?? known?.reference ?? null;
  const by = { verifier: verifierId, reference, max: verifier.watchesMax ?? max, nowMs };
  return addWatch(tx, certificate, by) !== undefined;
}

/** Removes entries of an intake that has ended. */
export const removeEntries: Rule<
  { readonly intakeId: string; readonly rows: readonly Key<'intakeEntry'>[] },
  void
> = {
  action: 'removeIntakeEntries',
  subject: ({ intakeId, rows }) => ({ intakeId, entries: rows.length }),
  locks: ({ intakeId }) => [entriesLock(intakeId)],
  loads: ({ rows }) => rows.map((key) => byKey('intakeEntry', key)),
  decide: ({ rows }, tx) => {
    for (const key of rows) if (tx.get('intakeEntry', key)) tx.remove('intakeEntry', key);
  },
};

/** An intake of which no entry is left. */
export const finishIntake: Rule<{ readonly intakeId: string }, void> = {
  action: 'finishIntake',
  subject: ({ intakeId }) => ({ intakeId }),
  locate: locateIntake,
  locks: locksOf,
  loads: ({ intakeId }) => [
    byKey('intake', { intakeId }),
    byIndex('intakeEntry', { intakeId }, { options: { limit: 1 } }),
  ],
  decide: ({ intakeId }, tx, { nowMs }) => {
    const before = tx.get('intake', { intakeId });
    if (!before || before.work === null || tx.find('intakeEntry', { intakeId }, { limit: 1 }).length > 0)
      return;
    // One that was ended before its sample was drawn says nothing that has to be kept.
    if (before.sampled === 0) tx.remove('intake', { intakeId });
    else {
      const state = before.work === 'take' ? 'done' : before.state;
      tx.update('intake', { ...before, state, work: null, changedMs: nowMs }, before);
    }
  },
};
