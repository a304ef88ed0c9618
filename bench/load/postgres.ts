import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Session } from '../../store/postgres/session.ts';
import { startPostgres, type TestPostgres } from '../../test/support/postgres-server.ts';
import { cpuMicros } from './measure.ts';

/** A PostgreSQL server for a bench, which is held to the disk. */
export interface BenchPostgres extends Disposable {
  /** The part of a configuration that keeps the record there. Puts the password into the data folder. */
  configure(folder: string): { readonly record: object };
  /** The same in another database, which is made, and by another port. */
  place(database: string, port?: number): Promise<{ readonly record: object; readonly password: string }>;
  readonly port: number;
  octets(): Promise<number>;
  /** Processor time of all its processes; one that has ended no longer counts. */
  cpuMicros(): number;
}

export async function benchPostgres(): Promise<BenchPostgres> {
  // A checkpoint is followed by images of whole pages: not within a run.
  const postgres = await startPostgres({ fsync: 'on', max_wal_size: '6GB', shared_buffers: '512MB' });
  let isStopped = false;
  process.once('exit', () => isStopped || postgres.stop('immediate'));
  const { server, password, port } = postgres;
  return {
    configure: (folder) => {
      mkdirSync(join(folder, 'secrets'), { recursive: true });
      writeFileSync(join(folder, 'secrets', 'postgres.password'), password, { mode: 0o600 });
      const { database, user } = server;
      return { record: { postgres: { hosts: [`127.0.0.1:${port}`], database, user, tls: 'off' } } };
    },
    port,
    place: async (database, by = port) => {
      const session = await Session.open(server, { name: 'bench' });
      await session.query(`CREATE DATABASE ${database}`);
      await session.close();
      const { user } = server;
      return {
        record: { postgres: { hosts: [`127.0.0.1:${by}`], database, user, tls: 'off' } },
        password,
      };
    },
    octets: async () => {
      const session = await Session.open(server, { name: 'bench' });
      const { rows } = await session.query('SELECT pg_database_size(current_database())');
      await session.close();
      return Number(rows[0]?.[0]);
    },
    cpuMicros: () => processesOf(postgres).reduce((sum, pid) => sum + cpuMicros(pid), 0),
    [Symbol.dispose]: () => {
      isStopped = true;
      postgres.stop('fast');
      postgres.remove();
    },
  };
}

/** The server, whose number stands in the first line of its file, and what it has started. */
function processesOf({ data }: TestPostgres): number[] {
  const first = Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]);
  const children = readdirSync(`/proc/${first}/task`).flatMap((task) =>
    readFileSync(`/proc/${first}/task/${task}/children`, 'utf8').trim().split(' '),
  );
  return [first, ...children.filter((child) => child !== '').map(Number)];
}
