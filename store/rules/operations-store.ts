import type { DeviceMatch } from '../../core/model/device.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  BulkOperation,
  BulkProgress,
  OperationsStore,
  Restriction,
  Switch,
} from '../api/operations-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Rule } from '../engine/rule.ts';
import type { RecordFeed } from '../feed/event-feed.ts';
import { allowConfiguration } from './configuration-rules.ts';
import { allowExport, exportIn } from './exports.ts';
import {
  approveBulkOperation,
  proposeEnd,
  proposeRestriction,
  setSwitch,
  withdrawBulkOperation,
} from './operations-rules.ts';
import { type Cursor, matchingAfter, readMatching } from './restricted-phones.ts';
import { takeStep } from './restriction-pass.ts';
import { actView, isOccupying, restrictionView } from './restrictions.ts';
import { allSwitches } from './switches.ts';

/** What operators set and start, over any `RecordDatabase`. */
export class RecordOperations implements OperationsStore {
  readonly #database: RecordDatabase;
  readonly #feed: RecordFeed;
  readonly #clock: Clock;
  #isCounting = false;

  constructor(options: {
    readonly database: RecordDatabase;
    readonly feed: RecordFeed;
    readonly clock: Clock;
  }) {
    this.#database = options.database;
    this.#feed = options.feed;
    this.#clock = options.clock;
  }

  switches(): Promise<readonly Switch[]> {
    return this.#database.read(allSwitches);
  }

  allowExport(
    command: Parameters<OperationsStore['allowExport']>[0],
  ): ReturnType<OperationsStore['allowExport']> {
    return this.#database.run(allowExport, command, this.#clock.wallMs());
  }

  export(exportId: string): ReturnType<OperationsStore['export']> {
    return this.#database.read((reader) => exportIn(reader, exportId));
  }

  allowConfiguration(
    command: Parameters<OperationsStore['allowConfiguration']>[0],
  ): ReturnType<OperationsStore['allowConfiguration']> {
    return this.#run(allowConfiguration, command);
  }

  setSwitch(command: Parameters<OperationsStore['setSwitch']>[0]): ReturnType<OperationsStore['setSwitch']> {
    return this.#run(setSwitch, command);
  }

  async countMatching(match: DeviceMatch): Promise<{ phones: number; certificates: number }> {
    if (this.#isCounting) throw new PkiError('overloaded', 'another count is under way');
    this.#isCounting = true;
    try {
      return await this.#count(match);
    } finally {
      this.#isCounting = false;
    }
  }

  async #count(match: DeviceMatch): Promise<{ phones: number; certificates: number }> {
    const nowMs = this.#clock.wallMs();
    let [phones, certificates] = [0, 0];
    let cursor: Cursor | undefined;
    for (let isLast = false; !isLast; ) {
      // A transaction for each page: others read in between.
      await this.#database.read((reader) => {
        const page = matchingAfter(reader, { match, lastCohort: null }, cursor);
        const live = readMatching(reader, page.rows).found.filter(({ row, state }) =>
          isOccupying({ ...row, state }, nowMs),
        );
        phones += new Set(live.map(({ of }) => of.mediumId)).size;
        certificates += live.filter(({ state }) => state === 'good').length;
        ({ cursor, isLast } = page);
      });
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { phones, certificates };
  }

  proposeRestriction(
    command: Parameters<OperationsStore['proposeRestriction']>[0],
  ): ReturnType<OperationsStore['proposeRestriction']> {
    return this.#run(proposeRestriction, command);
  }

  proposeEnd(
    command: Parameters<OperationsStore['proposeEnd']>[0],
  ): ReturnType<OperationsStore['proposeEnd']> {
    return this.#run(proposeEnd, command);
  }

  approve(command: Parameters<OperationsStore['approve']>[0]): ReturnType<OperationsStore['approve']> {
    return this.#run(approveBulkOperation, command);
  }

  withdraw(command: Parameters<OperationsStore['withdraw']>[0]): ReturnType<OperationsStore['withdraw']> {
    return this.#run(withdrawBulkOperation, command);
  }

  restrictions(): Promise<readonly Restriction[]> {
    return this.#database.read((reader) => {
      const rows = reader.find('restriction', {});
      return rows.map((row) => restrictionView(reader, row));
    });
  }

  restriction(restrictionId: string): Promise<Restriction | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('restriction', { restrictionId });
      return row && restrictionView(reader, row);
    });
  }

  runningActs(): Promise<readonly BulkOperation[]> {
    return this.#database.read((reader) => reader.find('massAct', { state: 'running' }).map(actView));
  }

  async advance(actId: string): Promise<BulkProgress> {
    const { act, altered } = await takeStep(this.#database, actId, this.#clock.wallMs());
    return { operation: actView(act), altered };
  }

  deliver(): Promise<void> {
    return this.#feed.deliverEverywhere();
  }

  #run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input): Promise<Outcome> {
    return this.#database.run(rule, input, this.#clock.wallMs());
  }
}
