import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSecretLine, secretSource } from '../../core/runtime/secret-source.ts';
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
    ...(tls === 'off'
      ? {}
      : { tls: ca === undefined ? {} : { ca: readFileSync(resolve(folder, ca), 'utf8') } }),
  };
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

/**
 * Opens the record. Beside a service on a database server, which alone writes under the node's name, an operator's command writes under a name
 * of its own.
 */
export async function openRecordAt(
  config: Config,
  paths: Layout,
  { clock, shared, isOwner }: { readonly clock: Clock; readonly shared: boolean; readonly isOwner: boolean },
): Promise<RecordDatabase> {
  const server = postgresOf(config, paths);
  if (!server) return openSqlite({ file: paths.record, writer: config.node, clock, shared });
  // Only where it is wanted: the driver takes memory.
  const { openPostgres } = await import('../../store/postgres/postgres.ts');
  return openPostgres({ server, writer: isOwner ? config.node : `${config.node}-operator`, clock });
}

/** Refuses what is done with the file of the record, where there is none. */
export function refuseServer({ record }: Config, what: string): void {
  if (record.postgres)
    throw new PkiError(
      'bad-request',
      `${what}: the record is in PostgreSQL; back the database up, and restore it, with its own tools, and the data folder with yours`,
    );
}
