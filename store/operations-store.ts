import type { Clock } from '../core/clock.ts';
import type { OperationsStore, Switch } from '../core/operations-store.ts';
import type { RecordDatabase } from './record.ts';
import { writeOnce } from './requests.ts';
import { allSwitches, switchView } from './switches.ts';

/** What operators set and start, over any `RecordDatabase`. */
export class RecordOperations implements OperationsStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  switches(): Promise<readonly Switch[]> {
    return this.#database.read(allSwitches);
  }

  setSwitch(command: Parameters<OperationsStore['setSwitch']>[0]): Promise<void> {
    const { scope, actor, name, state, perMinute, note } = command;
    const nowMs = this.#clock.wallMs();
    const deed = { actor, action: 'setSwitch', subject: { name, state, perMinute } };
    return writeOnce(this.#database, { scope, deed, nowMs }, async (tx) => {
      const row = { name, state, perMinute, note, changedMs: nowMs, changedBy: actor.client };
      const before = await tx.get('switch', { name });
      if (before) await tx.update('switch', row, before);
      else await tx.insert('switch', row);
      return command.reply(switchView(row));
    });
  }
}
