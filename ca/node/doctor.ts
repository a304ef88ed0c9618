import { execFileSync } from 'node:child_process';
import { createWriteStream, readdirSync, statfsSync, statSync } from 'node:fs';
import { cpus, loadavg, release, totalmem, uptime } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { systemClock } from '../../core/runtime/clock.ts';
import { noDataFolder } from '../../core/runtime/data-folder.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { ownPackage } from '../../core/runtime/own-package.ts';
import { checkFolder, effective } from './configuration-check.ts';
import { openNew } from './new-file.ts';

// A bundle for a person who helps: machine, versions, configuration, what lies in the data folder by name, size and mode, and metrics. It holds
// no content of the data folder but the configuration, which names files of secrets and holds none.

/** Entries of the data folder that are listed, and how deep; tokens and published CRLs are counted, not listed. */
const [listedMax, deepest] = [2000, 4];
/** How long the service may take to give its metrics, milliseconds. */
const withinMs = 5000;

/** Writes the bundle; gives the file’s name. Throws `bad-request` where there is no such data folder. */
export async function writeDoctor({
  data,
  out,
}: {
  readonly data: string;
  readonly out?: string;
}): Promise<string> {
  const folder = resolve(data);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new PkiError('bad-request', noDataFolder(folder));
  const file = resolve(
    out ?? `warifu-doctor-${new Date(systemClock.wallMs()).toISOString().replaceAll(':', '')}.tar.gz`,
  );
  const fd = openNew(file);
  const archive = pack();
  const written = pipeline(archive, createGzip(), createWriteStream(file, { fd }));
  const parts: readonly [string, () => string | Promise<string>][] = [
    ['system.json', systemText],
    ['configuration.json', () => effective(folder)],
    ['configuration-check.txt', () => faultsIn(folder)],
    ['folder.txt', () => listingOf(folder)],
    ['metrics.txt', () => metricsOf(folder)],
  ];
  for (const [name, make] of parts) await addText(archive, name, make);
  archive.finalize();
  await written;
  return file;
}

/** What `config check` says, faults among it. */
function faultsIn(folder: string): string {
  try {
    return `${checkFolder(folder).join('\n')}\n`;
  } catch (error) {
    return `${(error as Error).message}\n`;
  }
}

/** What cannot be had is said in its place: the rest is wanted all the more. */
async function addText(archive: Pack, name: string, make: () => string | Promise<string>): Promise<void> {
  let text: string;
  try {
    text = await make();
  } catch (error) {
    const { message, cause } = error as Error;
    text = `cannot be had: ${message}${cause instanceof Error ? ` (${cause.message})` : ''}\n`;
  }
  await new Promise<void>((resolve, reject) =>
    archive.entry({ name: `warifu-doctor/${name}` }, text, (error) => (error ? reject(error) : resolve())),
  );
}

const version = (command: string, ...args: string[]): string => {
  try {
    return (
      execFileSync(command, args, { encoding: 'utf8', timeout: withinMs, stdio: ['ignore', 'pipe', 'pipe'] })
        .split('\n')[0]
        ?.trim() ?? ''
    );
  } catch {
    return 'not there';
  }
};

function systemText(): string {
  const own = ownPackage();
  const system = {
    at: new Date(systemClock.wallMs()).toISOString(),
    warifu: own.version,
    dependencies: own.dependencies,
    node: process.versions,
    platform: `${process.platform} ${process.arch} ${release()}`,
    processor: cpus()[0]?.model,
    cores: cpus().length,
    memoryOctets: totalmem(),
    load: loadavg(),
    uptimeSeconds: Math.round(uptime()),
    openssl: version('openssl', 'version'),
    softhsm: version('softhsm2-util', '--version'),
    synchronized: version('timedatectl', 'show', '-p', 'NTPSynchronized', '--value'),
  };
  return `${JSON.stringify(system, null, 2)}\n`;
}

/** Names, sizes, modes and times below the data folder, a line each. */
function listingOf(folder: string): string {
  const { bavail, bsize, blocks } = statfsSync(folder);
  const lines = [`${bavail * bsize} of ${blocks * bsize} octets free`];
  const visit = (at: string, depth: number): void => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (lines.length >= listedMax) return;
      const path = join(at, entry.name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (!stat) continue;
      const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
      const isUncounted =
        entry.isDirectory() && (depth === deepest || /^(softhsm|published|clients)$/.test(entry.name));
      const held = isUncounted ? ` (${readdirSync(path).length} entries)` : '';
      lines.push(
        `${mode} ${stat.uid}:${stat.gid} ${String(stat.size).padStart(12)} ${stat.mtime.toISOString()} ${relative(folder, path)}${entry.isDirectory() ? '/' : ''}${held}`,
      );
      if (entry.isDirectory() && !isUncounted) visit(path, depth + 1);
    }
  };
  visit(folder, 0);
  return `${lines.join('\n')}\n`;
}

/** What the service, if it runs and serves metrics, measures now; a fingerprint of a node's certificate is no secret. */
async function metricsOf(folder: string): Promise<string> {
  const { metrics } = JSON.parse(effective(folder)) as { metrics?: { host: string; port: number } };
  if (!metrics) return 'no metrics are configured\n';
  const host = metrics.host.includes(':') ? `[${metrics.host}]` : metrics.host;
  const at = `http://${host}:${metrics.port}`;
  const get = async (path: string): Promise<string> => {
    const answer = await fetch(`${at}${path}`, { signal: AbortSignal.timeout(withinMs) });
    return `${path}: ${answer.status}\n${await answer.text()}`;
  };
  return `${await get('/ready')}\n${await get('/metrics')}`;
}
