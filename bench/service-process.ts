import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

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

/** Ports below those that systems give to outgoing connections, a hundred for each process, so that none is taken between. */
const blocks = { first: 12_000, size: 100, count: 200 };
let given = 0;

/** A port that is free now, and that nothing else of ours will ask for. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < blocks.size; tries++) {
    const port = blocks.first + (process.pid % blocks.count) * blocks.size + (given++ % blocks.size);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
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
): Promise<ServiceProcess> {
  const main = new URL('../ca/main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [main, 'start', '--data', folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  spawned(child);
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += String(chunk);
  });
  const exited = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => String(chunk).includes('Warifu is running') && resolve());
    void exited.then((code) => reject(new Error(`the service ended with ${code}: ${log}`)));
  });
  return {
    child,
    addresses,
    exited,
    log: () => log,
    stop: async () => {
      child.kill('SIGTERM');
      const code = await exited;
      if (code !== 0) throw new Error(`the service ended with ${code}: ${log}`);
    },
  };
}
