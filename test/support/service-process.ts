import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

/** The real service, in a process of its own. */
export interface ServiceProcess {
  readonly child: ChildProcess;
  readonly addresses: { readonly api: string; readonly ocsp: string; readonly crl: string };
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | string>;
  log(): string;
  /** SIGTERM; rejects where the service does not end with 0. */
  stop(): Promise<void>;
}

/** Ports below those that systems give to outgoing connections, in blocks of a hundred. */
const blocks = { first: 12_000, size: 100, count: 200 };
let claimed: Promise<number> | undefined;
let given = 0;

/** Listens at a port of this machine, or says that it is taken. */
async function listenAt(port: number): Promise<Server | undefined> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/**
 * Claims a block of ports for the life of this process, by listening at its first one:
 * process ids alone collide, and then a service that restarts finds its port taken.
 */
async function claimBlock(): Promise<number> {
  for (let tries = 0; tries < blocks.count; tries++) {
    const first = blocks.first + ((process.pid + tries) % blocks.count) * blocks.size;
    const server = await listenAt(first);
    if (server === undefined) continue;
    server.unref();
    return first;
  }
  throw new Error('no free block of ports');
}

/** A port that is free now, and that no other process of the tests or benches asks for. */
export async function freePort(): Promise<number> {
  claimed ??= claimBlock();
  const first = await claimed;
  for (let tries = 1; tries < blocks.size; tries++) {
    const port = first + 1 + (given++ % (blocks.size - 1));
    const server = await listenAt(port);
    if (server === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
  throw new Error('no free port');
}

/** Writes a configuration with free ports into a data folder. */
export async function configure(
  folder: string,
  overrides: { readonly crl?: object } & Record<string, object> = {},
): Promise<ServiceProcess['addresses']> {
  const [api, ocsp, crl] = [await freePort(), await freePort(), await freePort()];
  mkdirSync(folder, { recursive: true });
  const config = {
    ...overrides,
    api: { port: api },
    ocsp: { port: ocsp, publicUrl: `http://127.0.0.1:${ocsp}` },
    crl: { ...overrides.crl, port: crl, publicUrl: `http://127.0.0.1:${crl}` },
  };
  writeFileSync(join(folder, 'warifu.json'), JSON.stringify(config));
  const at = (port: number): string => `127.0.0.1:${port}`;
  return { api: `https://${at(api)}`, ocsp: `http://${at(ocsp)}`, crl: `http://${at(crl)}` };
}

/** Starts the service on a configured data folder; resolves when it says that it runs. */
export async function startProcess(
  folder: string,
  addresses: ServiceProcess['addresses'],
  spawned: (child: ChildProcess) => void = () => undefined,
  /** Of another version of the software, maybe; as another user where `prefix` says so. */
  main = new URL('../../ca/main.ts', import.meta.url).pathname,
  prefix: readonly string[] = [],
): Promise<ServiceProcess> {
  const [program = '', ...args] = [...prefix, process.execPath, main, 'start', '--data', folder];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  spawned(child);
  return { ...(await watched(child, 'Warifu is running')), addresses };
}

/** Starts the signer of a configured data folder that was made, as another user where `prefix` says so; resolves when it listens. */
export async function startSignerProcess(
  folder: string,
  prefix: readonly string[] = [],
): Promise<Omit<ServiceProcess, 'addresses'>> {
  const main = new URL('../../ca/main.ts', import.meta.url).pathname;
  const [program = '', ...args] = [...prefix, process.execPath, main, 'signer', '--data', folder];
  return watched(spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] }), 'listening at');
}

/** Follows a process of ours until it says that it runs; rejects where it ends before. */
async function watched(
  child: ChildProcess & { stdout: Readable; stderr: Readable },
  said: string,
): Promise<Omit<ServiceProcess, 'addresses'>> {
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += String(chunk);
  });
  const exited = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => String(chunk).includes(said) && resolve());
    void exited.then((code) => reject(new Error(`the process ended with ${code}: ${log}`)));
  });
  return {
    child,
    exited,
    log: () => log,
    stop: async () => {
      child.kill('SIGTERM');
      const code = await exited;
      if (code !== 0) throw new Error(`the process ended with ${code}: ${log}`);
    },
  };
}
