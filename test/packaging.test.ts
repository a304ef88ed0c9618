import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { supervisor } from '../core/runtime/supervisor.ts';
import { removeScratch, scratch } from './support/harness.ts';

// What a distribution of the project is made with: units of systemd, an image, and what is in it.

afterAll(removeScratch);

const root = new URL('..', import.meta.url).pathname;
const units = readdirSync(join(root, 'packaging/systemd'));
const unitOf = (name: string): string => readFileSync(join(root, 'packaging/systemd', name), 'utf8');

describe('the units of systemd', () => {
  it.each(units)('%s is one that systemd takes', (name) => {
    const folder = scratch();
    // Where the project is installed on this machine; whether it is there at all is what systemd looks for.
    const text = unitOf(name)
      .replaceAll('/opt/warifu/node_modules/.bin/node', process.execPath)
      .replaceAll('/opt/warifu', root.replace(/\/$/, ''));
    writeFileSync(join(folder, name), text);
    const { status, stdout, stderr } = spawnSync(
      'systemd-analyze',
      ['verify', '--man=no', join(folder, name)],
      {
        encoding: 'utf8',
      },
    );
    // Users are made when it is installed.
    expect([status, `${stdout}${stderr}`]).toEqual([0, '']);
  });

  it.each(units)('%s leaves a service that was broken into little to do', (name) => {
    const file = join(root, 'packaging/systemd', name);
    // Exposure in tenths: 10 is a service without any protection, beyond 25 is no more good.
    const asked = ['security', '--offline=true', '--threshold=25', file];
    const { status, stdout } = spawnSync('systemd-analyze', asked, { encoding: 'utf8' });
    expect([name, status, status === 0 ? '' : stdout]).toEqual([name, 0, '']);
  });

  it('name commands, files and data folders that there are', () => {
    for (const name of units) {
      const text = unitOf(name);
      const [, entry = ''] = /^ExecStart=\S+ --max-semi-space-size=8 (\S+)/m.exec(text) ?? [];
      expect(['ca/main.ts', 'ocsp/main.ts', 'crl/main.ts']).toContain(entry);
      expect(text).toContain('Type=notify');
    }
  });
});

describe('a service under systemd', () => {
  const receivers: ReturnType<typeof spawn>[] = [];
  afterEach(() => {
    for (const receiver of receivers.splice(0)) receiver.kill('SIGKILL');
  });

  /** A datagram socket as systemd has it, and what it has received. */
  async function listen(): Promise<{ socket: string; received: () => string[] }> {
    const socket = join(scratch(), 'notify');
    const script = `import socket,sys
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound',flush=True)
while True: print(s.recvmsg(4096, socket.CMSG_SPACE(64))[0].decode().replace('\\n',' '),flush=True)`;
    const receiver = spawn('python3', ['-c', script, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    receivers.push(receiver);
    let text = '';
    const bound = new Promise((resolve) => receiver.stdout.once('data', resolve));
    receiver.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await bound;
    return {
      socket,
      received: () =>
        text
          .split('\n')
          .slice(1)
          .filter((line) => line !== ''),
    };
  }

  const lines: string[] = [];
  const logger = pino({ base: null }, { write: (line) => void lines.push(line) });

  it('says that it is ready, that it is alive, and that it stops', async () => {
    const { socket, received } = await listen();
    const systemd = supervisor({ ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '500000' }, logger);
    systemd.ready();
    const has = (what: string) =>
      expect.poll(() => received().some((line) => line.includes(what)), { timeout: 10_000 }).toBe(true);
    await has('READY=1');
    await has('WATCHDOG=1');
    systemd.stopping();
    await has('STOPPING=1');
    expect(lines).toEqual([]);
  });

  it('says nothing where there is no systemd, and once in its log where it cannot be told', async () => {
    const none = supervisor({}, logger);
    none.ready();
    none.stopping();
    expect(lines).toEqual([]);
    const gone = supervisor({ NOTIFY_SOCKET: join(scratch(), 'none'), PATH: '/nowhere' }, logger);
    gone.ready();
    gone.stopping();
    await expect.poll(() => lines.length, { timeout: 10_000 }).toBe(1);
    expect(lines[0]).toContain('systemd cannot be told');
  });
});

describe('what is in a distribution', () => {
  interface Locked {
    readonly license?: string;
    readonly dev?: boolean;
    readonly resolved?: string;
    readonly integrity?: string;
    readonly link?: boolean;
  }
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Locked>;
  };
  const packages = Object.entries(lock.packages).filter(
    ([name, { link }]) => name.startsWith('node_modules/') && !link,
  );

  it('has licences that go with Apache-2.0, and each package by its hash', () => {
    const fit =
      /^(MIT|MIT-0|ISC|Apache-2\.0|BSD-[23]-Clause|0BSD|BlueOak-1\.0\.0|Unlicense|CC0-1\.0|Python-2\.0|\(MIT OR [A-Z0-9.-]+\)|MIT OR [A-Z0-9.-]+|MIT AND [A-Z0-9.-]+)$/;
    const licenceOf = (name: string, { license }: Locked): string => {
      if (license !== undefined) return license;
      const file = join(root, name, 'package.json');
      return String(JSON.parse(readFileSync(file, 'utf8')).license);
    };
    const shipped = packages.filter(([, { dev }]) => !dev);
    expect(shipped.filter(([name, each]) => !fit.test(licenceOf(name, each))).map(([name]) => name)).toEqual(
      [],
    );
    expect(
      packages.filter(([, { integrity }]) => !integrity?.startsWith('sha512-')).map(([name]) => name),
    ).toEqual([]);
  });

  const npmMajor = Number.parseInt(execFileSync('npm', ['--version'], { encoding: 'utf8' }), 10);
  // Debian 12's npm is of 2022, and makes no bill of materials.
  it.skipIf(npmMajor < 10)('is listed by a bill of materials in CycloneDX, made from the lock alone', () => {
    const folder = scratch();
    mkdirSync(join(folder, 'out'));
    const text = execFileSync('npm', ['run', '--silent', 'sbom'], { cwd: root, encoding: 'utf8' });
    const { bomFormat, components } = JSON.parse(text) as {
      bomFormat: string;
      components: { name: string; purl: string; hashes?: object[] }[];
    };
    expect(bomFormat).toBe('CycloneDX');
    const names = components.map(({ name }) => name);
    for (const wanted of ['pkijs', 'graphene-pk11', 'undici', 'piscina', 'fastify', 'pg'])
      expect(names).toContain(wanted);
    expect(names).not.toContain('vitest');
  });
});
