import { type ClientKind, checkClientName, foldedName } from '../../core/model/client-name.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Transaction } from '../engine/record.ts';
import { byIndex, byKey, type Load } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Who clients are: names that stay theirs for ever, so that what an old entry says of a client is still of that client.

interface Identity {
  readonly clientId: string;
  readonly name: string;
  readonly kind: ClientKind;
}

/** What `claimName` reads. */
export const nameLoads = ({ clientId, name }: Pick<Identity, 'clientId' | 'name'>): readonly Load[] => [
  byKey('clientIdentity', { clientId }),
  byIndex('clientIdentity', { foldedName: foldedName(name) }),
];

/** Gives a new client its name. `bad-request` for one that cannot be read, `in-use` for one that another client has or had. */
export function claimName(tx: Transaction, { clientId, name, kind }: Identity, nowMs: number): void {
  checkClientName(name);
  const folded = foldedName(name);
  const [other] = tx.find('clientIdentity', { foldedName: folded });
  if (other) throw new PkiError('in-use', `name: another client has, or had, the name ${other.name}`);
  tx.insert('clientIdentity', { clientId, name, foldedName: folded, kind, addedMs: nowMs });
}

/** A client's kind; one from before there were kinds is a system. */
export const kindOfClient = (row: Pick<Row<'clientIdentity'>, 'kind'> | undefined): ClientKind =>
  row?.kind === 'person' ? 'person' : 'system';
