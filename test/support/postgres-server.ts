import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PostgresServer } from '../../store/postgres/server.ts';
import { freePort } from './service-process.ts';

// PostgreSQL servers for tests, in folders of their own. The server refuses to run as root: there it runs as the user that Debian's package
// makes for it.

/** The database that all others are copied from: the record's tables, empty. */
export const templateName = 'warifu_template';

const installed = '/usr/lib/postgresql';
const user = 'postgres';

/** Folder of the newest server that is installed. */
export function postgresPrograms(): string {
  const versions = existsSync(installed) ? readdirSync(installed).map(Number).filter(Number.isInteger) : [];
  const newest = versions.sort((a, b) => b - a)[0];
  if (newest === undefined) throw new Error("no PostgreSQL server is installed: 'npm run setup' does it");
  return join(installed, String(newest), 'bin');
}

const idOf = (option: '-u' | '-g'): number =>
  Number(execFileSync('id', [option, user], { encoding: 'utf8' }).trim());

/** Runs one of the server's programs as a user that it accepts. */
export function runPostgres(program: string, args: readonly string[]): void {
  const path = join(postgresPrograms(), program);
  const isRoot = process.getuid?.() === 0;
  const [command, ...before] = isRoot
    ? ['setpriv', `--reuid=${idOf('-u')}`, `--regid=${idOf('-g')}`, '--clear-groups', path]
    : [path];
  try {
    execFileSync(command as string, [...before, ...args], { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    throw new Error(`${program}: ${String((error as { stderr?: unknown }).stderr)}`, { cause: error });
  }
}

/** A new folder that belongs to the server. */
export function postgresFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-postgres-'));
  if (process.getuid?.() === 0) chownSync(folder, idOf('-u'), idOf('-g'));
  return folder;
}

export interface TestPostgres {
  readonly server: PostgresServer;
  readonly password: string;
  readonly data: string;
  readonly port: number;
  start(): void;
  /** `immediate` as by a crash. */
  stop(mode: 'fast' | 'immediate'): void;
  /** Makes a primary of a standby. */
  promote(): void;
  remove(): void;
}

/** Makes a standby of a running server and starts it; from then on the server waits for it with each commit. */
export function startStandby(
  primary: TestPostgres,
  { name, port }: { readonly name: string; readonly port: number },
): TestPostgres {
  const folder = postgresFolder();
  const data = join(folder, 'data');
  const [at] = primary.server.hosts;
  const address = `host=127.0.0.1 port=${at?.port} user=warifu password=${primary.password} application_name=${name}`;
  runPostgres('pg_basebackup', ['-D', data, '-d', address, '-R', '-X', 'stream', '-c', 'fast', '--no-sync']);
  appendFileSync(
    join(data, 'postgresql.auto.conf'),
    `port = '${port}'\nprimary_conninfo = '${address}'\nsynchronous_standby_names = ''\n`,
  );
  const standby = serverIn({ folder, data, password: primary.password, port });
  standby.start();
  return standby;
}

/** Makes a server and starts it. It is not held to the disk: tests kill the server, and never the machine. */
export async function startPostgres(settings: Readonly<Record<string, string>> = {}): Promise<TestPostgres> {
  const folder = postgresFolder();
  const data = join(folder, 'data');
  const password = randomBytes(12).toString('hex');
  const file = join(folder, 'password');
  writeFileSync(file, password);
  runPostgres('initdb', [
    ...['-D', data, '-U', 'warifu', '-A', 'scram-sha-256', `--pwfile=${file}`, '-E', 'UTF8'],
    ...['--locale=C', '--no-sync'],
  ]);
  rmSync(file);
  const port = await freePort();
  const all = {
    ...{ listen_addresses: '127.0.0.1', port: String(port), unix_socket_directories: '' },
    ...{ fsync: 'off', max_connections: '200', max_locks_per_transaction: '256', shared_buffers: '64MB' },
    ...settings,
  };
  writeFileSync(
    join(data, 'postgresql.auto.conf'),
    Object.entries(all)
      .map(([name, value]) => `${name} = '${value}'\n`)
      .join(''),
  );
  const made = serverIn({ folder, data, password, port });
  made.start();
  return made;
}

/** A server whose files are there, as it is started and stopped. */
function serverIn({
  folder,
  data,
  password,
  port,
}: {
  readonly folder: string;
  readonly data: string;
  readonly password: string;
  readonly port: number;
}): TestPostgres {
  const control = (...args: string[]): void => runPostgres('pg_ctl', ['-D', data, '-w', '-t', '30', ...args]);
  const start = (): void => control('-l', join(folder, 'server.log'), 'start');
  return {
    server: {
      hosts: [{ host: '127.0.0.1', port }],
      ...{ database: 'postgres', user: 'warifu', password: () => password },
    },
    ...{ password, data, port, start },
    stop: (mode) => control('-m', mode, 'stop'),
    promote: () => control('promote'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
