import { keyOf } from '../../core/model/certificate-id.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import type { RetentionStore } from '../api/retention-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { purgeExpired, purgeMessages, purgeOctets } from './purge-rules.ts';

/** Rows of each table that one step looks at: few enough not to hold other writers up. */
const stepRows = 500;

/** States of messages that nothing more is done with. */
const doneStates = ['confirmed', 'delivered'] as const;

type Place = readonly (string | number)[];

/** Retention over any `RecordDatabase`. */
export class RecordRetention implements RetentionStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;
  /** Where the next step goes on, by state: what stays must not hide what is behind it. */
  readonly #messagesTo = new Map<string, string>();
  #octetsTo: Place | undefined;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  async purgeExpired(): Promise<boolean> {
    const nowMs = this.#clock.wallMs();
    const expired = await this.#database.read((reader) => ({
      requests: reader.findDue('request', nowMs, stepRows),
      challenges: reader.findDue('challenge', nowMs, stepRows),
      codes: reader.findDue('enrolmentCode', nowMs, stepRows),
    }));
    const counts = Object.values(expired).map(({ length }) => length);
    if (counts.some((rows) => rows > 0)) await this.#database.run(purgeExpired, expired, nowMs);
    return counts.includes(stepRows);
  }

  async purgeMessages(beforeMs: number): Promise<boolean> {
    const pages = await this.#database.read((reader) =>
      doneStates.map((state) => {
        const after = this.#messagesTo.get(state);
        const options = { where: { state }, order: ['messageId'] as const, limit: stepRows };
        return reader.scan('message', after === undefined ? options : { ...options, after: [after] });
      }),
    );
    const messages = pages.flat().filter((row) => row.createdMs < beforeMs && row.dueMs === null);
    if (messages.length > 0)
      await this.#database.run(purgeMessages, { messages, beforeMs }, this.#clock.wallMs());
    for (const [i, state] of doneStates.entries()) {
      const last = pages[i]?.at(-1);
      // Their ids go by the time at which they were made: behind one that is young enough there is none.
      const isMore = pages[i]?.length === stepRows && last !== undefined && last.createdMs < beforeMs;
      if (isMore) this.#messagesTo.set(state, last.messageId);
      else this.#messagesTo.delete(state);
    }
    return this.#messagesTo.size > 0;
  }

  async purgeOctets(beforeMs: number): Promise<boolean> {
    const { rows, purgeable } = await this.#database.read((reader) => {
      const rows = endedBefore(reader, beforeMs, this.#octetsTo);
      return { rows, purgeable: rows.filter((row) => hasOctets(reader, row)) };
    });
    const keys = purgeable.map((row) => ({
      ...keyOf(row),
      ...{ holderId: row.holderId, issuanceId: row.issuanceId },
    }));
    if (keys.length > 0)
      await this.#database.run(purgeOctets, { certificates: keys, beforeMs }, this.#clock.wallMs());
    const last = rows.at(-1);
    // Only behind what was removed: the next step goes on there, and after a restart looks at all of them once.
    if (last) this.#octetsTo = [last.notAfterMs, last.position, last.authority, last.epoch];
    return rows.length === stepRows;
  }
}

function endedBefore(
  reader: RecordReader,
  beforeMs: number,
  after: Place | undefined,
): readonly Row<'certificate'>[] {
  const order = ['notAfterMs', 'position', 'authority', 'epoch'] as const;
  const page = reader.scan('certificate', { order, limit: stepRows, ...(after ? { after } : {}) });
  return page.filter(({ notAfterMs }) => notAfterMs < beforeMs);
}

const hasOctets = (reader: RecordReader, row: Row<'certificate'>): boolean =>
  reader.part('encoding', keyOf(row), ['dataKey']) !== undefined;
