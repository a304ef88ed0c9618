import { DatabaseSync } from 'node:sqlite';
import { entryHash } from '../../store/engine/audit-entry.ts';
import type { Row } from '../../store/schema/schema.ts';

// An attacker who can write the database and knows this software, but has no token.

/**
 * Changes entries of an audit chain and recomputes the hashes from the first of them on, so that the chain holds together. `change`
 * gives what an entry becomes; undefined where it stays.
 */
export function rewriteChain(
  file: string,
  change: (entry: Row<'audit'>, database: DatabaseSync) => Partial<Row<'audit'>> | undefined,
): void {
  const database = new DatabaseSync(file, { timeout: 5000 });
  database.exec('BEGIN IMMEDIATE');
  const entries = database
    .prepare('SELECT * FROM audit ORDER BY writer, sequence')
    .all() as unknown as Row<'audit'>[];
  let last: Row<'audit'> | undefined;
  for (const entry of entries) {
    const changed = change(entry, database);
    if (!changed && !last) continue;
    const next = { ...entry, ...changed, previousHash: last?.hash ?? entry.previousHash };
    last = { ...next, hash: entryHash(next) };
    database
      .prepare(
        'UPDATE audit SET acts = ?, rows = ?, digests = ?, previousHash = ?, hash = ? WHERE writer = ? AND sequence = ?',
      )
      .run(last.acts, last.rows, last.digests, last.previousHash, last.hash, last.writer, last.sequence);
  }
  database.exec('COMMIT');
  database.close();
}

/** Runs SQL on a record that others may have open. */
export function alter(file: string, sql: string, ...values: (string | number)[]): void {
  const database = new DatabaseSync(file, { timeout: 5000 });
  try {
    const { changes } = database.prepare(sql).run(...values);
    if (changes === 0) throw new Error(`nothing was altered by ${sql}`);
  } finally {
    database.close();
  }
}
