import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CaClient } from '../ca/client/client.ts';
import { derOf, pemOf } from './support/actors.ts';
import { issueCard, removeScratch, scratch, statusAt } from './support/harness.ts';
import { freePort } from './support/service-process.ts';

// The npm packages as they are delivered: made twice, installed from the tarball without the sources, and run.

const root = new URL('..', import.meta.url).pathname;
const modules = join(root, 'node_modules');
const sums = (text: string): string[] =>
  text
    .trim()
    .split('\n')
    .map((line) => line.slice(0, 64));
const pack = (from: string, to: string): string =>
  execFileSync(process.execPath, [join(from, 'packaging/pack.mjs'), to], { encoding: 'utf8' });

let packed: string;
let first: string;
/** Where the package is installed, and its home. */
let place: string;
let home: string;
let running: ChildProcess | undefined;

beforeAll(() => {
  packed = scratch();
  first = pack(root, packed);
  place = scratch();
  home = join(place, 'home');
  mkdirSync(home);
  mkdirSync(join(place, 'node_modules'));
  execFileSync('tar', ['xzf', join(packed, tarballOf('warifu'))], { cwd: place });
  execFileSync('mv', ['package', 'node_modules/warifu'], { cwd: place });
  // What npm would install beside it, by the versions of package-lock.json.
  for (const name of readdirSync(modules).filter((each) => each !== 'warifu' && each !== '.cache'))
    symlinkSync(join(modules, name), join(place, 'node_modules', name));
}, 60_000);
afterAll(async () => {
  if (running && running.exitCode === null) {
    running.kill('SIGTERM');
    await new Promise((resolve) => running?.once('exit', resolve));
  }
  removeScratch();
});

const tarballOf = (name: string): string =>
  readdirSync(packed).find((each) => each.startsWith(`${name}-0`)) ?? '';
const own = () => join(place, 'node_modules', 'warifu');
const command = (name = 'warifu') => join(own(), 'bin', name);
/** A service user's environment: no path of this project, and a home of its own. */
const env = () => ({ PATH: '/usr/bin:/bin', HOME: home });
const asUser = ['--reuid=12345', '--regid=12345', '--clear-groups'];

describe('packing', () => {
  it('makes the service and the packages of its callers', () => {
    expect(readdirSync(packed).sort()).toEqual([
      expect.stringMatching(/^warifu-\d.*\.tgz$/),
      expect.stringMatching(/^warifu-client-\d.*\.tgz$/),
      expect.stringMatching(/^warifu-verifier-\d.*\.tgz$/),
    ]);
  });

  it('gives the same octets again, elsewhere, at another time and under another umask', () => {
    const copy = join(scratch(), 'a checkout');
    // What is not committed yet is part of it, and what git does not know is not.
    execFileSync('git', ['clone', '-q', root, copy]);
    execFileSync('sh', ['-c', 'git diff HEAD --binary | git -C "$0" apply --allow-empty --index', copy], {
      cwd: root,
    });
    for (const name of ['ca/secret.json', 'docs/.env', 'docs/DRAFT.md', 'ca/scratch.ts'])
      writeFileSync(join(copy, name), '{}');
    symlinkSync(modules, join(copy, 'node_modules'));
    utimesSync(join(copy, 'ca/main.ts'), 1_000_000_000, 1_000_000_000);
    const text = execFileSync(
      'sh',
      ['-c', 'umask 077; exec "$0" packaging/pack.mjs "$1"', process.execPath, scratch()],
      { cwd: copy, encoding: 'utf8' },
    );
    expect(sums(text)).toEqual(sums(first));
  }, 60_000);

  it('leaves out sources, tests, and what sets a checkout up', () => {
    const names = execFileSync('tar', ['tzf', join(packed, tarballOf('warifu'))], { encoding: 'utf8' });
    const scripts = names.split('\n').filter((name) => name.endsWith('.ts'));
    // A browser gets these without their types.
    expect(scripts.filter((name) => !name.startsWith('package/ca/console/'))).toEqual([]);
    expect(names).not.toMatch(/\/(test|bench|node_modules|dist)\/|setup\.mjs|vitepress|\.key\b/);
  });

  it('has a package.json whose dependencies are the project’s, and no other', () => {
    const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    const [mine, project] = [read(join(own(), 'package.json')), read(join(root, 'package.json'))];
    for (const member of ['version', 'dependencies', 'optionalDependencies', 'engines'])
      expect(mine[member]).toEqual(project[member]);
    expect(mine.scripts).toEqual({ postinstall: 'sh core/build-addon.sh' });
  });
});

describe('the installed package', () => {
  it.each(['warifu', 'warifu-ocsp', 'warifu-crl'])(
    'has the command %s, on the Node that it brings',
    (name) => {
      const { status, stdout } = spawnSync(command(name), ['--help'], { env: env(), encoding: 'utf8' });
      expect([status, stdout.split('\n')[0]]).toEqual([
        0,
        `Usage: ${name} [options]${name === 'warifu' ? ' [command]' : ''}`,
      ]);
    },
  );

  it('has its data where the XDG directories are for a user, and in /var/lib for root', () => {
    const shown = (as: readonly string[], extra: object = {}): string => {
      const script = `${command()} config check --help | tr -d '\\n '`;
      const args = as.length > 0 ? [...as, 'sh', '-c', script] : ['-c', script];
      return spawnSync(as.length > 0 ? 'setpriv' : 'sh', args, {
        env: { ...env(), ...extra },
        encoding: 'utf8',
      }).stdout;
    };
    if (process.getuid?.() === 0) expect(shown([])).toContain('/var/lib/warifu');
    const user = process.getuid?.() === 0 ? asUser : [];
    execFileSync('chmod', ['-R', 'go+rX', place]);
    expect(shown(user)).toContain(`${home}/.local/state/warifu`);
    expect(shown(user, { XDG_STATE_HOME: '/elsewhere' })).toContain('/elsewhere/warifu');
    expect(shown(user, { WARIFU_DATA: '/named' })).toContain('/named');
  });

  it('performs the ceremony, serves with all its threads, and issues, revokes, answers and stops', async () => {
    const data = join(place, 'data');
    mkdirSync(data);
    const [api, ocsp, crl] = [await freePort(), await freePort(), await freePort()];
    const config = {
      api: { port: api },
      ocsp: { port: ocsp, publicUrl: `http://127.0.0.1:${ocsp}` },
      crl: { port: crl, publicUrl: `http://127.0.0.1:${crl}` },
    };
    writeFileSync(join(data, 'warifu.json'), JSON.stringify(config));
    const service = spawn(command(), ['start'], {
      env: { ...env(), WARIFU_DATA: data },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running = service;
    let log = '';
    service.stderr.on('data', (part: Buffer) => {
      log += part;
    });
    await new Promise<void>((resolve, reject) => {
      service.stdout.on('data', (part: Buffer) => String(part).includes('Warifu is running') && resolve());
      service.once('exit', (code) => reject(new Error(`ended with ${code}: ${log}`)));
    });
    const file = (...names: string[]) => join(data, ...names);
    const client = CaClient.fromFiles({
      address: `https://127.0.0.1:${api}`,
      key: file('clients/first.key'),
      cert: file('clients/first.pem'),
      ca: file('tls/operations-ca.pem'),
    });
    const holder = await issueCard(client);
    const addresses = { ocsp: `http://127.0.0.1:${ocsp}`, crl: `http://127.0.0.1:${crl}` };
    expect(await statusAt(addresses, holder)).toBe('good');
    const { status } = await client.post('/events', { event: 'card-returned', cardId: holder.cardId });
    expect(status).toBe(200);
    expect(await statusAt(addresses, holder)).toBe('revoked');
    const page = await client.get('/caller');
    expect(page.status).toBe(200);
    await client.close();
    service.kill('SIGTERM');
    const code = await new Promise((resolve) => service.once('exit', resolve));
    expect([code, log.match(/"level":(50|60)/)]).toEqual([0, null]);
    expect(existsSync(join(data, 'record.db'))).toBe(true);
    expect(derOf(pemOf(holder.card, 'card-signing')).length).toBeGreaterThan(500);
  }, 60_000);

  it('says how to install it where it has no Node', () => {
    const bare = scratch();
    cpSync(own(), join(bare, 'warifu'), { recursive: true });
    const { status, stderr } = spawnSync(join(bare, 'warifu/bin/warifu'), ['--help'], {
      env: env(),
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([1, expect.stringContaining('optional dependencies')]);
  });
});
