import type { TestProject } from 'vitest/node';
import { systemClock } from '../../core/runtime/clock.ts';
import { openPostgres } from '../../store/postgres/postgres.ts';
import { Session } from '../../store/postgres/session.ts';
import { startPostgres, templateName } from './postgres-server.ts';

declare module 'vitest' {
  interface ProvidedContext {
    readonly postgres: { readonly port: number; readonly password: string };
  }
}

/** One server for all test files, with a database for each record. */
export default async function setUp(project: TestProject): Promise<() => void> {
  const postgres = await startPostgres();
  const session = await Session.open(postgres.server, { name: 'tests' });
  await session.query(`CREATE DATABASE ${templateName}`);
  await session.close();
  const server = { ...postgres.server, database: templateName };
  await (await openPostgres({ server, writer: 'template', clock: systemClock })).close();
  project.provide('postgres', { port: postgres.port, password: postgres.password });
  return () => {
    postgres.stop('immediate');
    postgres.remove();
  };
}
