import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { TimeCorrection, TimeStore } from '../api/time-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { byKey, exclusive } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { answeredOnce } from './once.ts';
import { takenBackMemory } from './token-memory.ts';

const locks = [exclusive('time-corrections')];

const propose = answeredOnce<Parameters<TimeStore['propose']>[0], TimeCorrection>({
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

const approve = answeredOnce<Parameters<TimeStore['approve']>[0], TimeCorrection>({
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

/** The record's time over any `RecordDatabase`. Its clock may be behind the record: what it decides is dated by that. */
export class RecordTime implements TimeStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  propose(command: Parameters<TimeStore['propose']>[0]): ReturnType<TimeStore['propose']> {
    return this.#database.run(propose, command, this.#clock.wallMs());
  }

  approve(command: Parameters<TimeStore['approve']>[0]): ReturnType<TimeStore['approve']> {
    return this.#database.run(approve, command, command.toMs);
  }

  corrections(): Promise<readonly TimeCorrection[]> {
    return this.#database.read((reader) =>
      reader
        .find('timeCorrection', {})
        .sort((a, b) => a.proposedMs - b.proposedMs || a.fromMs - b.fromMs)
        .map(view),
    );
  }
}

const view = ({ proposedMs: _, ...row }: Row<'timeCorrection'>): TimeCorrection => ({
  ...row,
  state: row.state as TimeCorrection['state'],
});
