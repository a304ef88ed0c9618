import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import type { PostgresServer } from '../../store/postgres/server.ts';
import { Session } from '../../store/postgres/session.ts';
import { templateName } from './postgres-server.ts';

// Databases for tests, on the server that `postgres-setup.ts` started.

const made: string[] = [];

const serverOf = (database: string): PostgresServer => {
  const { port, password } = inject('postgres');
  return { hosts: [{ host: '127.0.0.1', port }], database, user: 'warifu', password: () => password };
};

/** A database of its own, with the record's tables, empty. See `dropDatabases`. */
export async function newDatabase(): Promise<PostgresServer> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  const session = await Session.open(serverOf('postgres'), { name: 'tests' });
  try {
    await session.query(`CREATE DATABASE ${name} TEMPLATE ${templateName}`);
  } finally {
    await session.close();
  }
  made.push(name);
  return serverOf(name);
}

/** Drops all of them: after the tests of a file. */
export async function dropDatabases(): Promise<void> {
  if (made.length === 0) return;
  const session = await Session.open(serverOf('postgres'), { name: 'tests' });
  for (const name of made.splice(0)) await session.query(`DROP DATABASE ${name} WITH (FORCE)`);
  await session.close();
}
