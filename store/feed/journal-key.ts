import { randomBytes } from 'node:crypto';
import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';

/** Among the data keys. */
const name = 'journal';
const context = `data-key:${name}`;

/** The key by which the CA seals and proves what followers keep for it; undefined in a record of before there was one. */
export async function findJournalKey(
  database: RecordDatabase,
  keyWrapper: KeyWrapper,
): Promise<Bytes | undefined> {
  const row = await database.read((reader) => reader.get('dataKey', { name }));
  return row && keyWrapper.unwrap(context, row.wrappedKey);
}

/** The same, made where there is none: with the record, so that every backup has it. */
export async function openJournalKey(
  database: RecordDatabase,
  actor: Actor,
  { keyWrapper, nowMs }: { readonly keyWrapper: KeyWrapper; readonly nowMs: number },
): Promise<Bytes> {
  const known = await findJournalKey(database, keyWrapper);
  if (known) return known;
  const wrappedKey = await keyWrapper.wrap(context, randomBytes(32));
  await database.write({ actor, action: 'openJournalKey', subject: {} }, (tx) =>
    tx.insertNew('dataKey', { name, wrappedKey, createdMs: nowMs }),
  );
  return openJournalKey(database, actor, { keyWrapper, nowMs });
}
