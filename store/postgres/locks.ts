import { hash } from 'node:crypto';
import type { Lock } from '../engine/rule.ts';
import type { Session } from './session.ts';

// Locks by name, as advisory locks of the server.

/** Lock numbers are the first octets of the SHA-256 of their names: two names of one number exclude each other without need, and no more. */
export function lockNumber(name: string): bigint {
  return hash('sha256', `warifu ${name}`, 'buffer').readBigInt64BE(0);
}

/** Takes all of them, in one order for all lanes, so that no two wait for each other. */
export function takeLocks(session: Session, locks: readonly Lock[]): Promise<unknown> {
  const strongest = new Map<bigint, boolean>();
  for (const { name, mode } of locks) {
    const number = lockNumber(name);
    strongest.set(number, (strongest.get(number) ?? true) && mode === 'shared');
  }
  const sorted = [...strongest].sort(([a], [b]) => (a < b ? -1 : 1));
  return session.query(
    `SELECT CASE WHEN is_shared THEN pg_advisory_xact_lock_shared(number)::text ELSE pg_advisory_xact_lock(number)::text END
       FROM unnest($1::bigint[], $2::boolean[]) AS u(number, is_shared)`,
    [
      `{${sorted.map(([number]) => number).join()}}`,
      `{${sorted.map(([, isShared]) => (isShared ? 't' : 'f')).join()}}`,
    ],
  );
}
