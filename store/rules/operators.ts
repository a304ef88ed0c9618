import { PkiError } from '../../core/runtime/errors.ts';
import { clientIdOf, type KnownClient, whyEnded } from '../api/client-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { byIndex, type Load } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { kindOfClient } from './client-identity.ts';
import { clientView } from './views.ts';

// Clients as they are on record, and who of them may decide.

export function known(reader: RecordReader, row: Row<'client'>): KnownClient {
  const found = reader.get('clientTerm', { fingerprint: row.fingerprint });
  const clientId = found?.clientId ?? row.fingerprint;
  const kind = kindOfClient(reader.get('clientIdentity', { clientId }));
  if (!found) return { ...clientView(row), kind, term: null };
  const { fingerprint: _, ...term } = found;
  return { ...clientView(row), kind, term };
}

/** Role of a production ceremony's first client, which no client is bound to later: it enrols two administrators, and ends. */
export const founderRole = 'founder';

/** Who may decide, of those on record. */
export interface Operators {
  /** Clients in the role of the founder that can act. */
  readonly founders: readonly KnownClient[];
  /** Administrators that can act, one certificate of each. */
  readonly administrators: readonly KnownClient[];
}

/** A certificate without a recorded end was issued by an earlier version, and lasts as long as those did. */
const lifeOfEarlier = 90 * 86_400_000;

export const operatorLoads: readonly Load[] = [
  byIndex('client', {}),
  byIndex('clientTerm', {}),
  byIndex('clientIdentity', {}),
];

export interface At {
  readonly nowMs: number;
  /** How long a binding lasts that has no end on record. */
  readonly bindingMs: number;
}

export function operatorsIn(reader: RecordReader, { nowMs, bindingMs }: At): Operators {
  const all = reader.find('client', {}).map((row) => known(reader, row));
  const able = all.filter(
    (client) =>
      whyEnded(client, nowMs, bindingMs) === undefined &&
      (client.term?.certificateEndsMs != null || client.addedMs + lifeOfEarlier > nowMs),
  );
  const administrators = able.filter(({ roles }) => roles.includes('administrator'));
  return {
    founders: able.filter(({ roles }) => roles.includes(founderRole)),
    administrators: [...new Map(administrators.map((client) => [clientIdOf(client), client])).values()],
  };
}

/** An act by which fewer persons may decide than have to: null where any number will do. */
export interface Remaining {
  readonly personsMin: number;
  readonly bindingMs: number;
}

/** Refuses with `in-use` what leaves fewer administrators that are persons than have to be left. */
export function refuseTooFew(reader: RecordReader, remaining: Remaining | null, nowMs: number): void {
  if (!remaining) return;
  const { personsMin, bindingMs } = remaining;
  const { administrators } = operatorsIn(reader, { nowMs, bindingMs });
  const persons = administrators.filter(
    (client) => client.kind === 'person' && !isUnconfirmed(client),
  ).length;
  if (persons < personsMin)
    throw new PkiError(
      'in-use',
      `${persons} administrators would be left, and ${personsMin} have to be: enrol another first`,
    );
}

const isUnconfirmed = ({ term }: KnownClient): boolean => term?.unconfirmedSinceMs != null;

/** Refuses with `forbidden` that who is not confirmed confirms another, while one who is can. */
export function refuseUnconfirmed(reader: RecordReader, clientId: string, at: At): void {
  const { administrators } = operatorsIn(reader, at);
  const confirmed = administrators.filter((client) => !isUnconfirmed(client));
  if (confirmed.length > 0 && !confirmed.some((client) => clientIdOf(client) === clientId))
    throw new PkiError(
      'forbidden',
      'the client is not confirmed itself: an administrator who is confirms another',
    );
}
