import { PkiError } from '../../core/runtime/errors.ts';
import type { DeskStore, RecordedDesk } from '../api/desk-store.ts';
import { byKey, exclusive } from '../engine/rule.ts';
import { deskView } from './desks.ts';
import { answeredOnce } from './once.ts';

// The rules by which desks are recorded and suspended.

export const recordDesk = answeredOnce<Parameters<DeskStore['record']>[0], RecordedDesk>({
  action: 'recordDesk',
  subject: ({ desk: { deskCode, kind, municipality } }) => ({ deskCode, kind, municipality }),
  locks: ({ desk: { deskCode } }) => [exclusive('desk', deskCode)],
  loads: ({ desk: { deskCode } }) => [byKey('desk', { deskCode })],
  decide: ({ desk }, tx, { nowMs }) => {
    const { deskCode, functions, municipalities } = desk;
    const before = tx.get('desk', { deskCode });
    const row = {
      ...desk,
      functions: JSON.stringify(functions),
      municipalities: JSON.stringify(municipalities),
      suspendedMs: before?.suspendedMs ?? null,
      changedMs: nowMs,
    };
    if (before) tx.update('desk', row, before);
    else tx.insert('desk', row);
    return deskView(row);
  },
});

export const suspendDesk = answeredOnce<Parameters<DeskStore['suspend']>[0], RecordedDesk>({
  action: 'suspendDesk',
  subject: ({ deskCode, isSuspended }) => ({ deskCode, isSuspended }),
  locks: ({ deskCode }) => [exclusive('desk', deskCode)],
  loads: ({ deskCode }) => [byKey('desk', { deskCode })],
  decide: ({ deskCode, isSuspended }, tx, { nowMs }) => {
    const before = tx.get('desk', { deskCode });
    if (!before) throw new PkiError('not-found', 'no such desk');
    const row = {
      ...before,
      suspendedMs: isSuspended ? (before.suspendedMs ?? nowMs) : null,
      changedMs: nowMs,
    };
    tx.update('desk', row, before);
    return deskView(row);
  },
});
