import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = new URL('..', import.meta.url).pathname;
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '');
const sources = tracked.filter((file) => /\.(ts|mjs)$/.test(file));
/** Made by a package's build, and not kept. */
const generated = ['ca/sdk/operations.ts'];
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** Files of ours that a file imports, by path from the root. */
function importsOf(file: string): string[] {
  const specifiers = [...read(file).matchAll(/(?:from|import)\s*\(?'(\.[^']+)'/g)].map(
    (match) => match[1] ?? '',
  );
  const workers = [...read(file).matchAll(/new URL\('(\.[^']+\.ts)', import\.meta\.url\)/g)].map(
    (match) => match[1] ?? '',
  );
  return [...specifiers, ...workers]
    .map((specifier) => normalize(join(dirname(file), specifier)))
    .filter((imported) => !generated.includes(imported));
}

const roomOf = (file: string): string => dirname(file);
const folderOf = (file: string): string => file.split('/')[0] ?? '';

/** Rooms and folders that each folder may import from. The record's contracts are in `store/api`. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: ['core'],
  store: ['store', 'core'],
  hsm: ['hsm', 'core'],
  // The policy table is evaluated by the record's rules; what it says of an event is asked here, too.
  ca: ['ca', 'core', 'store/api', 'store/rules/policy'],
  ocsp: ['ocsp', 'core', 'store/api'],
  crl: ['crl', 'core', 'store/api'],
  bench: ['bench', 'core', 'store', 'hsm', 'ca', 'ocsp', 'crl', 'test/support'],
  test: ['test', 'core', 'store', 'hsm', 'ca', 'ocsp', 'crl', 'bench'],
};

/**
 * The one room of each service that puts its parts together, with the record and the HSM; and its options, which those of the
 * whole service contain.
 */
const wiring: Readonly<Record<string, readonly string[]>> = {
  'ca/config': ['hsm/config', 'ocsp/config', 'crl/config'],
  'ocsp/config': ['hsm/config'],
  'crl/config': ['hsm/config'],
  'ca/node': ['store', 'hsm', 'ocsp/node', 'crl/node', 'ocsp/config', 'crl/config'],
  // A process of its own, which reads the record and uses the CA's token.
  'ca/signer': ['store', 'hsm'],
  'ocsp/node': ['hsm'],
  'crl/node': ['hsm'],
};

/** Circles in a graph: each as the places that it leads through. */
function circlesOf(places: readonly string[], next: (place: string) => readonly string[]): string[][] {
  const done = new Set<string>();
  const circles: string[][] = [];
  const visit = (place: string, path: readonly string[]): void => {
    const at = path.indexOf(place);
    if (at >= 0) circles.push([...path.slice(at), place]);
    if (at >= 0 || done.has(place)) return;
    for (const other of next(place)) visit(other, [...path, place]);
    done.add(place);
  };
  for (const place of places) visit(place, []);
  return circles;
}

interface BiomeConfig {
  readonly linter: {
    readonly rules: { readonly complexity: { readonly noExcessiveLinesPerFunction: unknown } };
  };
  readonly overrides: readonly { readonly includes: readonly string[] }[];
}

/** Where a program begins: nothing needs to import these. */
const entries = [
  'core/setup.mjs',
  'core/compile.mjs',
  'ca/console/main.ts',
  'ca/sdk/generate.mjs',
  'packaging/pack.mjs',
  'packaging/try-container.mjs',
  'docs/.vitepress/config.mjs',
  'ca/sdk/index.ts',
  'core/verifier/index.ts',
  'ca/main.ts',
  'ca/node/backup-process.ts',
  'ocsp/main.ts',
  'crl/main.ts',
  'bench/demo/demo.ts',
  'bench/main.ts',
  'bench/figures/audit-verify.ts',
  'bench/figures/ceilings.ts',
  'bench/figures/crl-publisher.ts',
  'bench/figures/crl-listener.ts',
  'bench/figures/issue-load.ts',
  'bench/load/load-generator.ts',
  'test/torture/torture-record.ts',
  'bench/figures/ocsp-server.ts',
  'test/fixtures/keys/make.mjs',
  'test/fixtures/make-record.ts',
  'test/support/check-rules.ts',
  'test/support/postgres-setup.ts',
  'test/vitest.config.ts',
  'test/drills/vitest.config.ts',
];

describe('the architecture', () => {
  it.each(sources)('%s imports only what its folder may', (file) => {
    const own = [...(allowed[folderOf(file)] ?? []), ...(wiring[roomOf(file)] ?? [])];
    const foreign = importsOf(file).filter(
      (imported) => !own.some((place) => imported.startsWith(`${place}/`)),
    );
    expect(foreign).toEqual([]);
  });

  it('has no circle of files, types included, nor of rooms', () => {
    expect(circlesOf(sources, importsOf)).toEqual([]);
    // A story and an entry at a service's root stand each for itself: rooms use stories, and stories use rooms.
    const place = (file: string): string => (file.split('/').length === 2 ? file : roomOf(file));
    const files = sources.filter((file) => !file.startsWith('test/'));
    const rooms = Map.groupBy(files, place);
    const imports = (room: string): string[] => {
      const within = (rooms.get(room) ?? []).flatMap(importsOf).filter((file) => !file.startsWith('test/'));
      return [...new Set(within.map(place))].filter((other) => other !== room);
    };
    expect(circlesOf([...rooms.keys()], imports)).toEqual([]);
  });

  it('has functions of 70 lines at most, which the linter checks', () => {
    const { linter, overrides } = JSON.parse(read('.biome.json')) as BiomeConfig;
    expect(linter.rules.complexity.noExcessiveLinesPerFunction).toEqual({
      level: 'error',
      options: { maxLines: 70 },
    });
    expect(overrides.flatMap(({ includes }) => includes)).toEqual(['**/*.test.ts']);
  });

  it('has no file that nothing uses', () => {
    const used = new Set(sources.flatMap(importsOf));
    const unused = sources.filter(
      (file) => !used.has(file) && !entries.includes(file) && !file.endsWith('.test.ts'),
    );
    expect(unused).toEqual([]);
  });

  it('reads wall-clock time in core/runtime/clock.ts only', () => {
    const readers = sources.filter(
      (file) =>
        !file.startsWith('test/') &&
        !file.startsWith('bench/') &&
        /Date\.now\(|new Date\(\)|performance\.now\(/.test(read(file)),
    );
    expect(readers).toEqual(['core/runtime/clock.ts']);
  });

  it('has at the top what the owner fixed, core and store, what packaging needs, and nothing else', () => {
    const top = readdirSync(root).filter(
      (name) => !name.startsWith('.') && !['node_modules', 'data', 'dist'].includes(name),
    );
    expect(top.sort()).toEqual(
      [
        'CHANGELOG.md',
        'CONTRIBUTING.md',
        'LICENSE',
        'README.md',
        'SECURITY.md',
        'bench',
        'ca',
        'core',
        'crl',
        'docs',
        'hsm',
        'ocsp',
        'package-lock.json',
        'package.json',
        'packaging',
        'store',
        'test',
        'tsconfig.json',
      ].sort(),
    );
  });

  it('has no source file of more than 400 lines', () => {
    const long = sources.filter((file) => !file.startsWith('test/') && read(file).split('\n').length > 400);
    expect(long).toEqual([]);
  });

  it('silences no check and swallows no error', () => {
    const silenced = sources.filter(
      (file) =>
        file !== 'test/architecture.test.ts' &&
        /@ts-ignore|@ts-expect-error|\bas any\b|biome-ignore|catch \{\s*\}|\b(TODO|FIXME|XXX)\b/.test(
          read(file),
        ),
    );
    expect(silenced).toEqual([]);
  });
});
