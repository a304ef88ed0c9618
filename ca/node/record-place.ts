import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSecretLine, secretSource } from '../../core/runtime/secret-source.ts';
import type { SteadyClock } from '../../core/runtime/steady-clock.ts';
import type { RecordPlace } from '../../store/audit/open-reader.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { type PostgresServer, plainServer } from '../../store/postgres/server.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import type { Config } from '../config/config.ts';
import type { Layout } from './layout.ts';

/** The database that a configuration names; undefined where the record is a file. */
export function postgresOf({ record }: Config, { folder }: Layout): PostgresServer | undefined {
  const { postgres } = record;
  if (!postgres) return undefined;
  const { database, user, tls, ca, passwordFile, passwordEnvironment, passwordCredential } = postgres;
  const source = secretSource(
    { file: passwordFile, environment: passwordEnvironment, credential: passwordCredential },
    folder,
  );
  return {
    hosts: postgres.hosts.map(addressOf),
    ...{ database, user },
    password: () => readSecretLine(source, { what: 'password of the database', code: 'record-unavailable' }),
    ...(tls === 'off' ? {} : { tls: ca === undefined ? {} : { ca: authoritiesIn(resolve(folder, ca)) } }),
  };
}

function authoritiesIn(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new PkiError('bad-request', `/record/postgres/ca: ${file} cannot be read`, { cause: error });
  }
}

const portByDefault = 5432;

function addressOf(text: string): { readonly host: string; readonly port: number } {
  const { hostname, port } = new URL(`postgres://${text}`);
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? portByDefault : Number(port) };
}

export const recordPlace = (config: Config, paths: Layout): RecordPlace => {
  const server = postgresOf(config, paths);
  return server ? { server: plainServer(server) } : { file: paths.record };
};

/** Refuses a place without a record, before one is made there: it was moved, or the configuration names another place. */
export async function refuseMissing(config: Config, paths: Layout): Promise<void> {
  const server = postgresOf(config, paths);
  const aside = readdirSync(paths.folder).find((name) => name.startsWith(`${basename(paths.record)}.moved-`));
  if (!server) {
    if (existsSync(paths.record) || aside === undefined) return;
    throw new PkiError(
      'record-unavailable',
      `there is no ${paths.record}, and ${aside} next to it says that the record was moved: name the database in record.postgres`,
    );
  }
  const { hasRecord } = await import('../../store/postgres/postgres.ts');
  if (await hasRecord(server)) return;
  const hosts = server.hosts.map(({ host, port }) => `${host}:${port}`).join(', ');
  throw new PkiError(
    'record-unavailable',
    `the database ${server.database} at ${hosts} holds no record: record.postgres names another, or the record was moved`,
  );
}

/**
 * Opens the record. Beside a service on a database server, which alone writes under the node's name, an operator's command writes under a name
 * of its own.
 */
export async function openRecordAt(
  config: Config,
  paths: Layout,
  {
    clock,
    shared,
    isOwner,
    timedByServer,
  }: {
    readonly clock: SteadyClock;
    readonly shared: boolean;
    readonly isOwner: boolean;
    readonly timedByServer: boolean;
  },
): Promise<RecordDatabase> {
  const server = postgresOf(config, paths);
  if (!server) return openSqlite({ file: paths.record, writer: config.node, clock, shared });
  // Only where it is wanted: the driver takes memory.
  const { openPostgres } = await import('../../store/postgres/postgres.ts');
  return openPostgres({
    ...{ server, clock, timedByServer, writer: isOwner ? config.node : `${config.node}-operator` },
    strict: config.record.postgres?.strict ?? false,
    onSkew: (ms) => {
      if (timedByServer) clock.noteSkew(ms);
    },
  });
}

/** Refuses a database that cannot be used, or holds a record: a ceremony begins with an empty one. */
export async function refuseUsedDatabase(config: Config, paths: Layout): Promise<void> {
  const server = postgresOf(config, paths);
  if (!server) return;
  const { writersIn } = await import('../../store/postgres/postgres.ts');
  const writers = await writersIn(server);
  if (writers)
    throw new PkiError(
      'bad-request',
      `the database holds a record already, that ${writers.join(', ')} have written: to add a node to that service, run warifu join --data ${paths.folder}; a ceremony begins with an empty database`,
    );
}

/** Refuses what is done with the file of the record, where there is none. */
export function refuseServer({ record }: Config, what: string): void {
  if (record.postgres)
    throw new PkiError(
      'bad-request',
      `${what}: the record is in PostgreSQL; back the database up, and restore it, with its own tools, and the data folder with yours`,
    );
}
