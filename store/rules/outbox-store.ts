import type { Clock } from '../../core/runtime/clock.ts';
import type { Message, OutboxStore } from '../api/outbox-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { messageView } from './outbox.ts';
import { confirm, replay, settle } from './outbox-rules.ts';

/** The outbox over any `RecordDatabase`. */
export class RecordOutbox implements OutboxStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  due(destination: string, limit: number): Promise<readonly Message[]> {
    return this.#database.read((reader) => {
      const rows = reader.findDue('message', this.#clock.wallMs() + 1, limit, { destination });
      return rows.map((row) => messageView(reader, row));
    });
  }

  settle(outcome: Parameters<OutboxStore['settle']>[0]): Promise<void> {
    return this.#database.run(settle, outcome, this.#clock.wallMs());
  }

  messages(state: Message['state'], after: string | null, limit: number): Promise<readonly Message[]> {
    return this.#database.read((reader) => {
      const options = { where: { state }, order: ['messageId'] as const, limit };
      const rows = reader.scan('message', after === null ? options : { ...options, after: [after] });
      return rows.map((row) => messageView(reader, row));
    });
  }

  message(messageId: string): Promise<Message | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('message', { messageId });
      return row && messageView(reader, row);
    });
  }

  confirm(command: Parameters<OutboxStore['confirm']>[0]): ReturnType<OutboxStore['confirm']> {
    return this.#database.run(confirm, command, this.#clock.wallMs());
  }

  replay(command: Parameters<OutboxStore['replay']>[0]): ReturnType<OutboxStore['replay']> {
    return this.#database.run(replay, command, this.#clock.wallMs());
  }
}
