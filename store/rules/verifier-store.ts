import { foldedName } from '../../core/model/client-name.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import type { RecordedVerifier, VerifierStore } from '../api/verifier-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { addCredential, endCredential, recordVerifier, suspendVerifier } from './verifier-rules.ts';
import { verifierOfClient, verifierView, whyRefused } from './verifiers.ts';

/** The register of verifiers over any `RecordDatabase`. */
export class RecordVerifiers implements VerifierStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  verifier(verifierId: string): Promise<RecordedVerifier | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('verifier', { verifierId });
      return row && verifierView(reader, row);
    });
  }

  ofClient(name: string, nowMs: number): Promise<RecordedVerifier | undefined> {
    return this.#database.read((reader) => {
      const row = verifierOfClient(reader, foldedName(name), nowMs);
      return row && verifierView(reader, row);
    });
  }

  notified(nowMs: number): Promise<readonly string[]> {
    return this.#database.read((reader) =>
      reader
        .find('verifier', { delivery: 'webhook' })
        .filter((row) => whyRefused(reader, row, nowMs) === undefined)
        .map(({ verifierId }) => verifierId),
    );
  }

  list(after: string | null, limit: number): Promise<readonly RecordedVerifier[]> {
    return this.#database.read((reader) =>
      reader
        .scan('verifier', after === null ? { limit } : { after: [after], limit })
        .map((row) => verifierView(reader, row)),
    );
  }

  record(command: Parameters<VerifierStore['record']>[0]): ReturnType<VerifierStore['record']> {
    return this.#database.run(recordVerifier, command, this.#clock.wallMs());
  }

  suspend(command: Parameters<VerifierStore['suspend']>[0]): ReturnType<VerifierStore['suspend']> {
    return this.#database.run(suspendVerifier, command, this.#clock.wallMs());
  }

  addCredential(
    command: Parameters<VerifierStore['addCredential']>[0],
  ): ReturnType<VerifierStore['addCredential']> {
    return this.#database.run(addCredential, command, this.#clock.wallMs());
  }

  endCredential(
    command: Parameters<VerifierStore['endCredential']>[0],
  ): ReturnType<VerifierStore['endCredential']> {
    return this.#database.run(endCredential, command, this.#clock.wallMs());
  }
}
