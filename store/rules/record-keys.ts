import { randomBytes } from 'node:crypto';
import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Row } from '../schema/schema.ts';
import { addRecordKey } from './ceremony-rules.ts';

// Keys of 32 octets that the record itself works with, wrapped by the token, among its data keys: so every backup has them.

/**
 * `journal` seals and proves what followers keep for the CA (`JournalSeal`); `audit` authenticates the audit chain (`AuditKey`).
 */
export type RecordKeyName = 'journal' | 'audit';

const contextOf = (name: RecordKeyName): string => `data-key:${name}`;

/** undefined in a record of before there was one. */
export async function findRecordKey(
  database: Pick<RecordDatabase, 'read'>,
  keyWrapper: KeyWrapper,
  name: RecordKeyName,
): Promise<Bytes | undefined> {
  const row = await database.read((reader) => reader.get('dataKey', { name }));
  return row && keyWrapper.unwrap(contextOf(name), row.wrappedKey);
}

/** A new one, with the row that the record is to hold. */
export async function makeRecordKey(
  keyWrapper: KeyWrapper,
  name: RecordKeyName,
  nowMs: number,
): Promise<{ readonly key: Bytes; readonly row: Row<'dataKey'> }> {
  const key = randomBytes(32);
  const wrappedKey = await keyWrapper.wrap(contextOf(name), key);
  return { key, row: { name, wrappedKey, createdMs: nowMs } };
}

/** The journal's, made where there is none. */
export async function openJournalKey(
  database: RecordDatabase,
  actor: Actor,
  { keyWrapper, nowMs }: { readonly keyWrapper: KeyWrapper; readonly nowMs: number },
): Promise<Bytes> {
  const known = await findRecordKey(database, keyWrapper, 'journal');
  if (known) return known;
  const { row } = await makeRecordKey(keyWrapper, 'journal', nowMs);
  await addRecordKey(database, actor, row);
  return openJournalKey(database, actor, { keyWrapper, nowMs });
}
