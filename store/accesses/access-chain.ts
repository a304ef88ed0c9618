import { createHmac } from 'node:crypto';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { RecordedAccess } from '../api/access-store.ts';

/** MAC of an access over the one before: none can be altered, or taken out, without the key of the audit chain. */
export function accessMac(key: Bytes, previous: Bytes, access: RecordedAccess): Bytes {
  const { sequence, atMs, holderId, client, kind, role, actsFor, purpose, route, found, isFirst } = access;
  const content = [sequence, atMs, holderId, client, kind, role, actsFor, purpose, route, found, isFirst];
  return createHmac('sha256', key).update(previous).update(JSON.stringify(content)).digest();
}

/** Key of the chain, of that of the audit chain. */
export const accessKeyOf = (auditKey: Bytes): Bytes =>
  createHmac('sha256', auditKey).update('accesses').digest();

/** What is before the first access. */
export const chainStart: Bytes = new Uint8Array(32);
