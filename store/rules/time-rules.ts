import { PkiError } from '../../core/runtime/errors.ts';
import type { TimeCorrection, TimeStore } from '../api/time-store.ts';
import { byKey, exclusive } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { answeredOnce } from './once.ts';
import { takenBackMemory } from './token-memory.ts';

// The rules by which two clients take the record’s time back.

const locks = [exclusive('time-corrections')];

export const propose = answeredOnce<Parameters<TimeStore['propose']>[0], TimeCorrection>({
  action: 'proposeTimeCorrection',
  subject: ({ correctionId, fromMs }) => ({ correctionId, fromMs }),
  locks: () => locks,
  loads: () => [],
  decide: ({ correctionId, note, fromMs, scope }, tx, { nowMs }) => {
    const row = {
      correctionId,
      note,
      state: 'proposed',
      fromMs,
      toMs: null,
      proposedBy: scope.client,
      proposedMs: nowMs,
      approvedBy: null,
    };
    tx.insert('timeCorrection', row);
    return view(row);
  },
});

export const approve = answeredOnce<Parameters<TimeStore['approve']>[0], TimeCorrection>({
  action: 'approveTimeCorrection',
  subject: ({ correctionId, fromMs, toMs }) => ({ correctionId, fromMs, toMs }),
  takesBackTo: ({ toMs }) => toMs,
  locks: () => [...locks, exclusive('meta', takenBackMemory)],
  loads: ({ correctionId }) => [
    byKey('timeCorrection', { correctionId }),
    byKey('meta', { name: takenBackMemory }),
  ],
  decide: ({ correctionId, fromMs, toMs, scope }, tx) => {
    const row = tx.get('timeCorrection', { correctionId });
    if (!row) throw new PkiError('not-found', 'no such correction');
    if (row.state !== 'proposed')
      throw new PkiError('illegal-transition', `the correction is ${row.state}, not proposed`);
    if (row.proposedBy === scope.client)
      throw new PkiError('forbidden', 'a correction is approved by another client than proposed it');
    const after = { ...row, state: 'approved', fromMs, toMs, approvedBy: scope.client };
    tx.update('timeCorrection', after, row);
    const count = tx.get('meta', { name: takenBackMemory });
    const counted = { name: takenBackMemory, value: String(Number(count?.value ?? 0) + 1) };
    if (count) tx.update('meta', counted, count);
    else tx.insert('meta', counted);
    return view(after);
  },
});

export const view = ({ proposedMs: _, ...row }: Row<'timeCorrection'>): TimeCorrection => ({
  ...row,
  state: row.state as TimeCorrection['state'],
});
