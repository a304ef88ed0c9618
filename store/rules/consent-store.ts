import type { Clock } from '../../core/runtime/clock.ts';
import type { Consent, ConsentStore, Provision, Question } from '../api/consent-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { recordConsent, withdrawConsent, withhold } from './consent-rules.ts';
import { consentView, isWithheld, provisionOf } from './consents.ts';

/** Consents over any `RecordDatabase`. */
export class RecordConsents implements ConsentStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  record(command: Parameters<ConsentStore['record']>[0]): ReturnType<ConsentStore['record']> {
    return this.#database.run(recordConsent, command, this.#clock.wallMs());
  }

  withdraw(command: Parameters<ConsentStore['withdraw']>[0]): ReturnType<ConsentStore['withdraw']> {
    return this.#database.run(withdrawConsent, command, this.#clock.wallMs());
  }

  withhold(command: Parameters<ConsentStore['withhold']>[0]): ReturnType<ConsentStore['withhold']> {
    return this.#database.run(withhold, command, this.#clock.wallMs());
  }

  consent(consentId: string): Promise<Consent | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('consent', { consentId });
      return row && consentView(row);
    });
  }

  ofHolder(holderId: string): Promise<readonly Consent[]> {
    return this.#database.read((reader) => reader.find('consent', { holderId }).map(consentView));
  }

  isWithheld(holderId: string): Promise<boolean> {
    return this.#database.read((reader) => isWithheld(reader, holderId));
  }

  provision(question: Question): Promise<Provision | undefined> {
    return this.#database.read((reader) => provisionOf(reader, question, this.#clock.wallMs()));
  }
}
