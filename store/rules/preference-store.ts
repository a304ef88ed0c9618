import type { Clock } from '../../core/runtime/clock.ts';
import type { AddressToConfirm, NoticePreferences, PreferenceStore } from '../api/preference-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import {
  addressView,
  confirmAddress,
  countWrongCode,
  isOpen,
  preferencesOf,
  setPreferences,
} from './preference-rules.ts';

/** Notice preferences on record. A new address takes effect once it is confirmed. */
export class RecordPreferences implements PreferenceStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  of(holderId: string): Promise<NoticePreferences | undefined> {
    return this.#database.read((reader) => preferencesOf(reader, holderId));
  }

  setPreferences(
    command: Parameters<PreferenceStore['setPreferences']>[0],
  ): ReturnType<PreferenceStore['setPreferences']> {
    return this.#database.run(setPreferences, command, this.#clock.wallMs());
  }

  addressToConfirm(holderId: string): Promise<AddressToConfirm | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('addressToConfirm', { holderId });
      return row && isOpen(row, this.#clock.wallMs()) ? addressView(row) : undefined;
    });
  }

  countWrongCode(address: AddressToConfirm): Promise<void> {
    return this.#database.run(countWrongCode, address, this.#clock.wallMs());
  }

  confirmAddress(
    command: Parameters<PreferenceStore['confirmAddress']>[0],
  ): ReturnType<PreferenceStore['confirmAddress']> {
    return this.#database.run(confirmAddress, command, this.#clock.wallMs());
  }
}
