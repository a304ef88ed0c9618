import type { Clock } from '../../core/runtime/clock.ts';
import type { DeskStore, RecordedDesk } from '../api/desk-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { orderCards } from './card-orders.ts';
import { recordDesk, suspendDesk } from './desk-rules.ts';
import { checkDeskOf, deskView, refuseOtherTown } from './desks.ts';

/** Desks over any `RecordDatabase`. */
export class RecordDesks implements DeskStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  desk(deskCode: string): Promise<RecordedDesk | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('desk', { deskCode });
      return row && deskView(row);
    });
  }

  list(after: string | null, limit: number): Promise<readonly RecordedDesk[]> {
    return this.#database.read((reader) =>
      reader.scan('desk', after === null ? { limit } : { after: [after], limit }).map(deskView),
    );
  }

  record(command: Parameters<DeskStore['record']>[0]): ReturnType<DeskStore['record']> {
    return this.#database.run(recordDesk, command, this.#clock.wallMs());
  }

  suspend(command: Parameters<DeskStore['suspend']>[0]): ReturnType<DeskStore['suspend']> {
    return this.#database.run(suspendDesk, command, this.#clock.wallMs());
  }

  orderCards(command: Parameters<DeskStore['orderCards']>[0]): ReturnType<DeskStore['orderCards']> {
    return this.#database.run(orderCards, command, this.#clock.wallMs());
  }

  check(mandate: Parameters<DeskStore['check']>[0]): Promise<void> {
    return this.#database.read((reader) => checkDeskOf(reader, mandate, this.#clock.wallMs()));
  }

  checkTown({ holderId, mayMove, ...issued }: Parameters<DeskStore['checkTown']>[0]): Promise<void> {
    return this.#database.read((reader) =>
      refuseOtherTown(reader, issued, { holderId, mayMove }, this.#clock.wallMs()),
    );
  }

  townsOf(holderIds: readonly string[]): Promise<ReadonlyMap<string, string>> {
    return this.#database.read((reader) => {
      const rows = holderIds.flatMap((holderId) => reader.get('holderTown', { holderId }) ?? []);
      return new Map(rows.map(({ holderId, municipality }) => [holderId, municipality]));
    });
  }
}
