import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Message, OutboxStore } from '../api/outbox-store.ts';
import type { Deed, RecordDatabase } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { messageView, notify, want, wants } from './outbox.ts';
import { writeOnce } from './requests.ts';
import { keyOf } from './views.ts';

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

  async settle({ messageId, state, error, dueMs }: Parameters<OutboxStore['settle']>[0]): Promise<void> {
    const nowMs = this.#clock.wallMs();
    await this.#database.write(this.#ownDeed('deliver', { messageId }), (tx) => {
      const row = tx.get('message', { messageId });
      // Confirmed meanwhile: what came of the attempt no longer matters.
      if (!row || row.state === 'confirmed') return;
      const deliveredMs = error === null ? (row.deliveredMs ?? nowMs) : row.deliveredMs;
      const attempts = error === null ? 0 : row.attempts + 1;
      tx.update('message', { ...row, state, dueMs, lastError: error, deliveredMs, attempts }, row);
    });
  }

  async purge(beforeMs: number): Promise<void> {
    await this.#database.write(this.#ownDeed('purgeOutbox', {}), (tx) => {
      for (const state of ['confirmed', 'delivered']) {
        const after = this.#purgedTo.get(state);
        const options = { where: { state }, order: ['messageId'] as const, limit: purgeMax };
        const rows = tx.scan('message', after === undefined ? options : { ...options, after: [after] });
        const last = rows.length < purgeMax ? undefined : rows.at(-1)?.messageId;
        if (last === undefined) this.#purgedTo.delete(state);
        else this.#purgedTo.set(state, last);
        for (const row of rows) {
          if (row.createdMs >= beforeMs || row.dueMs !== null) continue;
          tx.remove('message', row);
          const { messageId } = row;
          if (tx.get('messageDetail', { messageId })) tx.remove('messageDetail', { messageId });
        }
      }
    });
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

  confirm(command: Parameters<OutboxStore['confirm']>[0]): Promise<void> {
    return this.#change(command, 'confirm', (row, nowMs) => {
      if (row.type === 'personalisation')
        throw new PkiError(
          'illegal-transition',
          'what was stored is confirmed with POST /v1/issuances/{issuanceId}/storage, where the issuance is the instance',
        );
      if (row.type !== 'remote-deletion')
        throw new PkiError('illegal-transition', 'only orders are confirmed');
      return { ...row, state: 'confirmed', dueMs: null, confirmedMs: row.confirmedMs ?? nowMs };
    });
  }

  replay(command: Parameters<OutboxStore['replay']>[0]): Promise<void> {
    return this.#change(command, 'replay', (row, nowMs) => {
      if (row.state !== 'dead')
        throw new PkiError('illegal-transition', `the message is ${row.state}, not given up`);
      return { ...row, state: 'waiting', attempts: 0, dueMs: nowMs };
    });
  }

  watch(command: Parameters<OutboxStore['watch']>[0]): Promise<void> {
    const { scope, actor, verifier, key } = command;
    const nowMs = this.#clock.wallMs();
    const deed = { actor, action: 'watch', subject: { verifier, ...keyOf(key) } };
    return writeOnce(this.#database, { scope, deed, nowMs }, (tx) => {
      const row = tx.get('certificate', keyOf(key));
      if (!row) throw new PkiError('not-found', 'no such certificate');
      tx.insertNew('watch', { ...keyOf(key), verifier, createdMs: nowMs });
      want(tx, row, wants.verifier, true);
      return command.reply(null);
    });
  }

  used(command: Parameters<OutboxStore['used']>[0]): Promise<void> {
    const { scope, actor, verifier, key } = command;
    const nowMs = this.#clock.wallMs();
    const deed = { actor, action: 'used', subject: { verifier } };
    return writeOnce(this.#database, { scope, deed, nowMs }, (tx) => {
      const row = tx.get('certificate', keyOf(key));
      if (!row) throw new PkiError('not-found', 'no such certificate');
      notify(tx, row, { occasion: 'used', reason: null, nowMs, verifier });
      return command.reply(null);
    });
  }

  #ownDeed(action: string, subject: Deed['subject']): Deed {
    return {
      actor: { client: `node:${this.#database.writer}`, role: 'node', requestId: '' },
      action,
      subject,
    };
  }

  #change(
    command: Parameters<OutboxStore['confirm']>[0],
    action: string,
    change: (row: Row<'message'>, nowMs: number) => Row<'message'>,
  ): Promise<void> {
    const { scope, actor, messageId } = command;
    const nowMs = this.#clock.wallMs();
    return writeOnce(
      this.#database,
      { scope, deed: { actor, action, subject: { messageId } }, nowMs },
      (tx) => {
        const row = tx.get('message', { messageId });
        if (!row) throw new PkiError('not-found', 'no such message');
        const after = change(row, nowMs);
        tx.update('message', after, row);
        return command.reply(messageView(tx, after));
      },
    );
  }
}
