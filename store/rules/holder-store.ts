import type { Clock } from '../../core/runtime/clock.ts';
import type { Correction, HolderStore } from '../api/holder-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Rule } from '../engine/rule.ts';
import { adoptedAfter } from './adopted.ts';
import { spendChallenge } from './challenges.ts';
import { reportDevice } from './device-report-rules.ts';
import {
  approveCorrection,
  bindToHolder,
  correctionView,
  giveCode,
  proposeCorrection,
  withdrawCorrection,
} from './holder-rules.ts';

/** What desks decide of holders, over any `RecordDatabase`. */
export class RecordHolders implements HolderStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  proposeCorrection(
    command: Parameters<HolderStore['proposeCorrection']>[0],
  ): ReturnType<HolderStore['proposeCorrection']> {
    return this.#run(proposeCorrection, command);
  }

  approveCorrection(
    command: Parameters<HolderStore['approveCorrection']>[0],
  ): ReturnType<HolderStore['approveCorrection']> {
    return this.#run(approveCorrection, command);
  }

  withdrawCorrection(
    command: Parameters<HolderStore['withdrawCorrection']>[0],
  ): ReturnType<HolderStore['withdrawCorrection']> {
    return this.#run(withdrawCorrection, command);
  }

  corrections(holderId: string): Promise<readonly Correction[]> {
    return this.#database.read((reader) =>
      reader
        .find('correction', { holderId })
        .map(correctionView)
        .sort((a, b) => a.proposedMs - b.proposedMs),
    );
  }

  giveCode(command: Parameters<HolderStore['giveCode']>[0]): ReturnType<HolderStore['giveCode']> {
    return this.#run(giveCode, command);
  }

  reportDevice(command: Parameters<HolderStore['reportDevice']>[0]): ReturnType<HolderStore['reportDevice']> {
    return this.#run(reportDevice, command);
  }

  useChallenge(command: Parameters<HolderStore['useChallenge']>[0]): Promise<void> {
    return this.#run(spendChallenge, command);
  }

  adopted(after: Parameters<HolderStore['adopted']>[0], limit: number): ReturnType<HolderStore['adopted']> {
    return this.#database.read((reader) => adoptedAfter(reader, after, limit));
  }

  bindAdopted(command: Parameters<HolderStore['bindAdopted']>[0]): ReturnType<HolderStore['bindAdopted']> {
    return this.#run(bindToHolder, command);
  }

  #run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input): Promise<Outcome> {
    return this.#database.run(rule, input, this.#clock.wallMs());
  }
}
