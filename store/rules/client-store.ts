import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import type { ClientStore, KnownClient, OperationsDraft, ReservedOperations } from '../api/client-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import {
  type AddCertificateCommand,
  type AddCommand,
  addCertificate,
  addClient,
  certificatesOf,
  confirmClient,
  type EndCertificateCommand,
  type EnrolCommand,
  endCertificate,
  enrolClient,
  noteUses,
  type RebindCommand,
  type RenewCommand,
  rebindClient,
  renewClient,
  revokeClient,
} from './client-rules.ts';
import { completeOperations, reserveOperations } from './operations-certificate-rules.ts';
import { known } from './operators.ts';

/** Clients and their terms, and what the operations CA signs, over any `RecordDatabase`. */
export class RecordClients implements ClientStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  reserve(draft: OperationsDraft): Promise<ReservedOperations> {
    return this.#run(reserveOperations, draft);
  }

  complete(serialNumber: string, signature: Bytes, fingerprint: string): Promise<void> {
    return this.#run(completeOperations, { serialNumber, signature, fingerprint });
  }

  client(fingerprint: string): Promise<KnownClient | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('client', { fingerprint });
      return row && known(reader, row);
    });
  }

  certificatesOf(clientId: string): Promise<readonly KnownClient[]> {
    return this.#database.read((reader) => certificatesOf(reader, clientId));
  }

  list(after: string | null, limit: number): Promise<readonly KnownClient[]> {
    return this.#database.read((reader) => {
      const rows = reader.scan('client', after === null ? { limit } : { after: [after], limit });
      return rows.map((row) => known(reader, row));
    });
  }

  add(command: AddCommand): ReturnType<ClientStore['add']> {
    return this.#run(addClient, command);
  }

  enrol(command: EnrolCommand): ReturnType<ClientStore['enrol']> {
    return this.#run(enrolClient, command);
  }

  addCertificate(command: AddCertificateCommand): ReturnType<ClientStore['addCertificate']> {
    return this.#run(addCertificate, command);
  }

  endCertificate(command: EndCertificateCommand): ReturnType<ClientStore['endCertificate']> {
    return this.#run(endCertificate, command);
  }

  revoke(command: Parameters<ClientStore['revoke']>[0]): ReturnType<ClientStore['revoke']> {
    return this.#run(revokeClient, command);
  }

  renew(command: RenewCommand): ReturnType<ClientStore['renew']> {
    return this.#run(renewClient, command);
  }

  rebind(command: RebindCommand): ReturnType<ClientStore['rebind']> {
    return this.#run(rebindClient, command);
  }

  confirm(command: Parameters<ClientStore['confirm']>[0]): ReturnType<ClientStore['confirm']> {
    return this.#run(confirmClient, command);
  }

  async noteUses(uses: ReadonlyMap<string, number>): Promise<void> {
    if (uses.size > 0) await this.#run(noteUses, [...uses]);
  }

  #run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input): Promise<Outcome> {
    return this.#database.run(rule, input, this.#clock.wallMs());
  }
}

/** What the operations CA's own certificate is made of; undefined where there is none. */
export function operationsAuthority(
  database: RecordDatabase,
): Promise<Pick<Row<'operationsCertificate'>, 'toBeSigned' | 'signature'> | undefined> {
  return database.read((reader) =>
    reader.find('operationsCertificate', {}).find(({ kind }) => kind === 'operations-authority'),
  );
}
