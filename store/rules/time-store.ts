import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { TimeCorrection, TimeStore } from '../api/time-store.ts';
import type { RecordDatabase } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { takenBackMemory } from './administration.ts';
import { writeOnce } from './requests.ts';

/** The record's time over any `RecordDatabase`. Its clock may be behind the record: what it decides is dated by that. */
export class RecordTime implements TimeStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  propose(command: Parameters<TimeStore['propose']>[0]): Promise<void> {
    const { scope, actor, reply, correctionId, note, fromMs } = command;
    const nowMs = this.#clock.wallMs();
    const deed = { actor, action: 'proposeTimeCorrection', subject: { correctionId, fromMs } };
    return writeOnce(this.#database, { scope, deed, nowMs }, (tx) => {
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
      return reply(view(row));
    });
  }

  approve(command: Parameters<TimeStore['approve']>[0]): Promise<void> {
    const { scope, actor, reply, correctionId, fromMs, toMs } = command;
    const subject = { correctionId, fromMs, toMs };
    const deed = { actor, action: 'approveTimeCorrection', subject, takesBackTo: toMs };
    return writeOnce(this.#database, { scope, deed, nowMs: toMs }, (tx) => {
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
      return reply(view(after));
    });
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
