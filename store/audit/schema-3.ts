import { hash } from 'node:crypto';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import { linkFault, type Position } from '../engine/audit-entry.ts';
import type { Row, TableName } from '../schema/schema.ts';

// Audit entries of schema 3: one for each transaction, with a digest of each row as it left it, and no code that authenticates them.

/** A row that a transaction wrote: table, key, and the first 16 octets of its digest, hex; null where it was removed. */
export type Schema3Change = readonly [table: TableName, key: (string | number)[], digest: string | null];

/** What is wrong with an entry that should follow another; undefined where nothing is. */
export const schema3Fault = (entry: Row<'auditOfSchema3'>, before: Position): string | undefined =>
  linkFault(entry, before, schema3Hash(entry));

/** SHA-256 over the previous entry's hash and every other column of this one. */
export function schema3Hash(entry: Omit<Row<'auditOfSchema3'>, 'hash'>): Bytes {
  const { writer, sequence, atMs, actor, action, subject, changes, previousHash } = entry;
  const lengths = [actor, subject, changes].map(({ length }) => length);
  const head = JSON.stringify([hex(previousHash), writer, sequence, atMs, action, lengths]);
  return hash('sha256', `${head}${actor}${subject}${changes}`, 'buffer');
}
