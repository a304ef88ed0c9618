import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { removeScratch, scratch } from './support/harness.ts';

afterAll(removeScratch);

const root = new URL('..', import.meta.url).pathname;
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The set-up, for a data folder with a configuration; what it printed, and how it ended. */
function setUp(config: string | object, env: Record<string, string> = {}) {
  const folder = scratch();
  writeFileSync(join(folder, 'warifu.json'), typeof config === 'string' ? config : JSON.stringify(config));
  const setup = join(root, 'core', 'setup.mjs');
  const { status, stderr } = spawnSync(process.execPath, [setup, 'start', '--data', folder], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  return { status, lines: stderr.split('\n').filter((line) => line !== '') };
}

describe('the set-up', () => {
  it('finds nothing to do, and says nothing, where all is there', () => {
    expect(setUp({})).toEqual({ status: 0, lines: [] });
    expect(setUp({ mode: 'production' })).toEqual({ status: 0, lines: [] });
  });

  it('in production installs nothing, and says in one line what is missing', () => {
    const { status, lines } = setUp({ mode: 'production', pkcs11: { module: '/nowhere/pkcs11.so' } });
    expect(status).toBe(1);
    expect(lines).toEqual([
      'warifu set-up: the configuration says production, so nothing is installed; missing: the PKCS#11 module /nowhere/pkcs11.so',
    ]);
  });

  it('leaves a module that the environment names to the one who named it', () => {
    const { status, lines } = setUp({}, { WARIFU_PKCS11_MODULE: '/nowhere/pkcs11.so' });
    expect(status).toBe(1);
    expect(lines).toEqual(['warifu set-up: the PKCS#11 module /nowhere/pkcs11.so is missing; install it']);
  });

  it('says in one line that a configuration is not JSON', () => {
    const { status, lines } = setUp('{"mode": "production"');
    expect(status).toBe(1);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/warifu\.json is not JSON/);
  });

  it('compiles each source, so that no thread of a service needs a compiler', () => {
    const [cache, compile] = [scratch(), join(root, 'core', 'compile.mjs')];
    const env = { ...process.env, NODE_COMPILE_CACHE: cache };
    const run = (more: Record<string, string> = {}) =>
      spawnSync(process.execPath, [compile], { encoding: 'utf8', env: { ...env, ...more } });
    expect(run()).toMatchObject({ status: 0, stdout: '', stderr: '' });
    const again = run({ NODE_DEBUG_NATIVE: 'COMPILE_CACHE' });
    const said = `${again.stdout}${again.stderr}`.split('\n').filter((line) => line.includes('Stripped'));
    expect(said.length).toBeGreaterThan(500);
    expect(said.filter((line) => line.includes('no transpile cache'))).toEqual([]);
  });

  it('runs no install scripts of packages, and builds the one addon against Node’s stable interface alone', () => {
    expect(read('.npmrc')).toMatch(/^ignore-scripts=true$/m);
    const { scripts } = JSON.parse(read('package.json')) as Record<string, object>;
    const addon = join(root, 'node_modules/pkcs11js/build/Release/pkcs11.node');
    // Another Node in the process ends it: Debian's node-gyp links its own.
    expect(spawnSync('ldd', [addon], { encoding: 'utf8' }).stdout).not.toContain('libnode');
    // npm would pass over them.
    expect(Object.keys(scripts ?? {}).filter((name) => /^(pre|post)/.test(name))).toEqual([]);
  });

  it('has every package, Node among them, pinned by its hash', () => {
    const { packages } = JSON.parse(read('package-lock.json')) as {
      packages: Record<string, { version: string; integrity?: string; link?: boolean }>;
    };
    const isOurs = ([path, { link }]: [string, { link?: boolean }]): boolean =>
      link === true || !path.startsWith('node_modules/');
    const named = Object.entries(packages).filter((each) => !isOurs(each));
    expect(
      Object.entries(packages)
        .filter(isOurs)
        .map(([path]) => path),
    ).toEqual([
      ...['', 'ca/sdk', 'core/verifier', 'node_modules/@warifu/client', 'node_modules/@warifu/verifier'],
    ]);
    expect(named.filter(([, { integrity }]) => !integrity?.startsWith('sha512-'))).toEqual([]);
    const binaries = named.filter(([path]) => /^node_modules\/node-(bin-)?(linux|darwin)-/.test(path));
    expect(binaries.length).toBeGreaterThan(1);
    expect(new Set(binaries.map(([, { version }]) => version))).toEqual(new Set([process.versions.node]));
  });
});

describe('the command warifu', () => {
  it('runs from anywhere, on the Node of the project', () => {
    const { bin } = JSON.parse(read('package.json')) as { bin: { warifu: string } };
    const folder = scratch();
    const link = join(folder, 'warifu');
    symlinkSync(join(root, bin.warifu), link);
    const said = execFileSync(link, ['policy', '--data', folder], {
      cwd: folder,
      encoding: 'utf8',
      // No Node at all on the path.
      env: { PATH: '/usr/sbin:/sbin:/bin' },
    });
    expect(said).toContain('card-returned');
  });
});
