import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { settled } from '../../core/runtime/settled.ts';
import type { CertificateView } from '../api/certificate-store.ts';
import type { Message } from '../api/outbox-store.ts';
import type { Watch, WatchStore } from '../api/watch-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { linkedTo } from './links.ts';
import { messageView } from './outbox.ts';
import { settle } from './outbox-rules.ts';
import { certificateView } from './views.ts';
import { dayNumber, endWatch, noteExpiry, purgeUses, reportUse, watch } from './watch-rules.ts';

/** Rows of one look at what is due. */
const dueMax = 500;

/** What verifiers watch and use, over any `RecordDatabase`. */
export class RecordWatches implements WatchStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  watch(command: Parameters<WatchStore['watch']>[0]): ReturnType<WatchStore['watch']> {
    return this.#database.run(watch, command, this.#clock.wallMs());
  }

  end(command: Parameters<WatchStore['end']>[0]): ReturnType<WatchStore['end']> {
    return this.#database.run(endWatch, command, this.#clock.wallMs());
  }

  reference(verifier: string, key: CertificateId): Promise<string | null> {
    return this.#database.read(
      (reader) => reader.get('watchDetail', { verifier, ...keyOf(key) })?.reference ?? null,
    );
  }

  list(verifier: string, after: CertificateId | null, limit: number): Promise<readonly Watch[]> {
    return this.#database.read((reader) => {
      const order = ['authority', 'epoch', 'position'] as const;
      const options = { where: { verifier }, order, limit };
      const from = after && [after.authority, after.epoch, after.position];
      const rows = reader.scan('watchDetail', from ? { ...options, after: from } : options);
      return rows.map((row) => ({ key: keyOf(row), reference: row.reference, createdMs: row.createdMs }));
    });
  }

  async noteExpired(): Promise<void> {
    const nowMs = this.#clock.wallMs();
    const [due, uses] = await this.#database.read((reader) => [
      reader.findDue('watchDetail', nowMs, dueMax),
      reader.scan('useCount', { limit: dueMax }).filter(({ day }) => day < dayNumber(nowMs)),
    ]);
    if (uses.length > 0) await this.#database.run(purgeUses, { rows: uses }, nowMs);
    await settled(
      due.map((row) => this.#database.run(noteExpiry, { verifier: row.verifier, ...keyOf(row) }, nowMs)),
    );
  }

  used(command: Parameters<WatchStore['used']>[0]): ReturnType<WatchStore['used']> {
    const nowMs = this.#clock.wallMs();
    return this.#database.run(reportUse, { ...command, day: dayNumber(nowMs) }, nowMs);
  }

  notices(verifier: string, limit: number): Promise<readonly Message[]> {
    return this.#database.read((reader) =>
      reader
        .findDue('message', Number.MAX_SAFE_INTEGER, limit, { destination: verifier })
        .map((row) => messageView(reader, row)),
    );
  }

  async received(verifier: string, messageIds: readonly string[]): Promise<void> {
    const own = await this.#database.read((reader) =>
      messageIds.filter((messageId) => reader.get('message', { messageId })?.destination === verifier),
    );
    const delivered = { state: 'delivered', error: null, dueMs: null } as const;
    await Promise.all(
      own.map((messageId) => this.#database.run(settle, { messageId, ...delivered }, this.#clock.wallMs())),
    );
  }

  linked(key: CertificateId, link: 'pair' | 'successor'): Promise<CertificateView | undefined> {
    return this.#database.read((reader) => {
      const row = linkedTo(reader, reader.get('certificate', keyOf(key)), link, this.#clock.wallMs());
      return row && certificateView(reader, row);
    });
  }
}
