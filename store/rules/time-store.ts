import type { Clock } from '../../core/runtime/clock.ts';
import type { TimeCorrection, TimeStore } from '../api/time-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { approve, propose, view } from './time-rules.ts';

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
