import type { Clock } from '../../core/runtime/clock.ts';
import type { Message, OutboxStore } from '../api/outbox-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { messageView } from './outbox.ts';
import { confirm, replay, settle } from './outbox-rules.ts';
import { purgeMessages } from './purge-rules.ts';

/** Messages that one purge looks at. */
const purgeMax = 500;

/** The outbox over any `RecordDatabase`. */
export class RecordOutbox implements OutboxStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;
  /** Where the next purge goes on, by state: what stays must not hide what is behind it. */
  readonly #purgedTo = new Map<string, string>();

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

  async purge(beforeMs: number): Promise<void> {
    const states = ['confirmed', 'delivered'] as const;
    const pages = await this.#database.read((reader) =>
      states.map((state) => {
        const after = this.#purgedTo.get(state);
        const options = { where: { state }, order: ['messageId'] as const, limit: purgeMax };
        return reader.scan('message', after === undefined ? options : { ...options, after: [after] });
      }),
    );
    const messages = pages.flat().filter((row) => row.createdMs < beforeMs && row.dueMs === null);
    if (messages.length > 0)
      await this.#database.run(purgeMessages, { messages, beforeMs }, this.#clock.wallMs());
    const next = pages.map((rows) => (rows.length < purgeMax ? undefined : rows.at(-1)?.messageId));
    for (const [i, state] of states.entries()) {
      const last = next[i];
      if (last === undefined) this.#purgedTo.delete(state);
      else this.#purgedTo.set(state, last);
    }
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
