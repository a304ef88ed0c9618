import { type Slot, slots } from '../../core/model/kinds.ts';
import {
  type CredentialType,
  isInForce,
  type NodeCredential,
  type VerifierType,
  whyInactive,
} from '../../core/model/verifier.ts';
import type { Credential, RecordedVerifier } from '../api/verifier-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, type Load } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Verifiers as the record has them.

/** What `verifierIn` reads. */
export const verifierLoads = (verifierId: string): readonly Load[] => [
  byKey('verifier', { verifierId }),
  byIndex('verifierCredential', { verifierId }),
];

const texts = (column: string): string[] => JSON.parse(column) as string[];

const credentialView = ({ verifierId: _, ...row }: Row<'verifierCredential'>): Credential => ({
  ...row,
  type: row.type as CredentialType,
});

/** A verifier by its row. Its platform is read where it has one. */
export function verifierView(
  reader: RecordReader,
  { delivery: _, ...row }: Row<'verifier'>,
): RecordedVerifier {
  const { verifierId, platformId } = row;
  const platform = platformId === null ? undefined : reader.get('verifier', { verifierId: platformId });
  return {
    ...row,
    type: row.type as VerifierType,
    kinds: texts(row.kinds) as Slot[],
    purposes: texts(row.purposes),
    platformSuspendedMs: platform?.suspendedMs ?? null,
    credentials: reader.find('verifierCredential', { verifierId }).map(credentialView),
  };
}

/** Why a verifier may ask nothing now, by itself or by its platform; undefined where it may. */
export function whyRefused(reader: RecordReader, row: Row<'verifier'>, nowMs: number): string | undefined {
  const why = whyInactive(row, nowMs);
  if (why !== undefined || row.platformId === null) return why;
  const platform = reader.get('verifier', { verifierId: row.platformId });
  return platform ? whyInactive(platform, nowMs) : 'its platform is not on record';
}

/** Has OCSP and CRL nodes know a verifier as it is in this transaction. */
export function announce(tx: Transaction, verifierId: string, nowMs: number): void {
  const row = tx.get('verifier', { verifierId });
  if (!row) return;
  const { version, fromMs, toMs, suspendedMs, requestsPerSecond } = row;
  const kinds = slots.filter((slot) => texts(row.kinds).includes(slot));
  const credentials = tx
    .find('verifierCredential', { verifierId })
    .filter(({ type }) => type !== 'client')
    .map(({ type, value, fromMs, toMs }) => ({
      ...{ type: type as NodeCredential['type'], value, fromMs },
      // What has ended is so by every clock.
      toMs: toMs !== null && toMs <= nowMs ? 0 : toMs,
    }));
  const facts = { verifierId, version, kinds, fromMs, toMs, suspendedMs, requestsPerSecond, credentials };
  tx.appendEvent({ type: 'verifier', ...facts });
}

/** The verifier that a client of the API is; undefined where it is none now. */
export function verifierOfClient(
  reader: RecordReader,
  foldedName: string,
  nowMs: number,
): Row<'verifier'> | undefined {
  const credential = reader
    .find('verifierCredential', { type: 'client', value: foldedName })
    .find((each) => isInForce(each, nowMs));
  const row = credential && reader.get('verifier', { verifierId: credential.verifierId });
  return row && whyRefused(reader, row, nowMs) === undefined ? row : undefined;
}
