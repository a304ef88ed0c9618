// Brings a fresh machine to the point where the project runs: every npm script that runs something calls it first. Plain
// JavaScript without imports of ours: it runs on whatever old Node the machine has, before any dependency exists. Each step
// is said before it is taken; a second run finds nothing to do. Where the configuration says that this is production it
// takes no step, and says what is missing.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const read = (...path) => readFileSync(join(root, ...path), 'utf8');
const node = join(root, 'node_modules', '.bin', 'node');
const stampFile = join(root, 'node_modules', '.warifu-setup');
/** Where Node keeps what it compiled; `start.sh` and the script `test` name the same folder. */
const compiled = join(root, 'node_modules', '.cache', 'compiled');
const compiledFile = join(root, 'node_modules', '.warifu-compiled');
const stamp = createHash('sha256').update(read('package-lock.json')).digest('hex');
/** Where distributions put SoftHSM's PKCS#11 module; the service looks in the same places. */
const softhsmPaths = JSON.parse(read('hsm', 'pkcs11', 'softhsm-paths.json'));
const japaneseFont = '/usr/share/fonts/opentype/ipafont-gothic/ipag.ttf';

function say(text) {
  process.stderr.write(`warifu set-up: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}

function run(command, args, env = {}) {
  const stdio = ['ignore', 2, 2];
  return spawnSync(command, args, { cwd: root, stdio, env: { ...process.env, ...env } }).status === 0;
}

const has = (command) => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;

/** The configuration of the data folder that the arguments name, if there is one. */
function configuration() {
  const at = process.argv.findIndex((argument) => /^--data(=|$)/.test(argument));
  const named = process.argv[at]?.startsWith('--data=') ? process.argv[at].slice(7) : process.argv[at + 1];
  const folder = resolve(at > 0 && named ? named : process.env.WARIFU_DATA || 'data');
  const files = ['warifu.json', 'node.json'].map((name) => join(folder, name));
  const file = files.find((candidate) => existsSync(candidate));
  if (file === undefined) return {};
  try {
    return JSON.parse(readFileSync(file, 'utf8')) ?? {};
  } catch (error) {
    return fail(`${file} is not JSON: ${error.message}`);
  }
}

/** PKCS#11 module that is used; undefined where there is none. */
function findModule(config) {
  const named = config.pkcs11?.module ?? process.env.WARIFU_PKCS11_MODULE;
  if (named === undefined) return softhsmPaths.find((path) => existsSync(path));
  return existsSync(named) ? named : undefined;
}

const isInstalled = () => existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp;

/** What is wanted of the machine, each with the packages that have it. */
function wants(config) {
  const tests = process.argv.includes('--tests');
  const named = config.pkcs11?.module ?? process.env.WARIFU_PKCS11_MODULE;
  return [
    {
      what: named === undefined ? 'a PKCS#11 module (SoftHSM)' : `the PKCS#11 module ${named}`,
      isThere: () => findModule(config) !== undefined,
      // A module that somebody has named is theirs to install.
      debian: named === undefined ? ['softhsm2'] : [],
      elsewhere: "Fedora 'dnf install softhsm', macOS 'brew install softhsm'",
    },
    {
      what: 'the command openssl',
      isThere: () => has('openssl'),
      debian: ['openssl'],
      elsewhere: "Fedora 'dnf install openssl', macOS 'brew install openssl'",
    },
    {
      what: 'GnuTLS’s ocsptool and certtool, which the tests need',
      isThere: () => !tests || (has('ocsptool') && has('certtool')),
      debian: ['gnutls-bin'],
      elsewhere: "Fedora 'dnf install gnutls-utils', macOS 'brew install gnutls'",
    },
    {
      what: 'the server nginx, which the tests need',
      isThere: () => !tests || existsSync('/usr/sbin/nginx') || has('nginx'),
      debian: ['nginx-light'],
      elsewhere: "Fedora 'dnf install nginx', macOS 'brew install nginx'",
    },
    {
      what: 'the command age, which the tests need',
      isThere: () => !tests || has('age'),
      debian: ['age'],
      elsewhere: "Fedora 'dnf install age', macOS 'brew install age'",
    },
    {
      what: 'a PostgreSQL server, which the tests need',
      isThere: () => !tests || existsSync('/usr/lib/postgresql'),
      debian: ['postgresql'],
      // The tests make servers of their own: none is to be made, and started, with the package.
      before: { file: '/etc/postgresql-common/createcluster.conf', text: 'create_main_cluster = false\n' },
      elsewhere: 'the tests of PostgreSQL need Debian’s folders',
    },
    {
      what: 'the browser Chromium with a Japanese font, which the tests of the console need',
      isThere: () => !tests || (existsSync('/usr/bin/chromium') && existsSync(japaneseFont)),
      debian: ['chromium', 'fonts-ipafont-gothic'],
      elsewhere: 'the tests of the console need Debian’s chromium',
    },
    {
      what: 'Prometheus’s promtool, which the tests need',
      isThere: () => !tests || has('promtool'),
      debian: ['prometheus'],
      elsewhere: 'the tests of metrics need Prometheus’s promtool on the PATH',
    },
    {
      what: 'systemd-analyze and systemd-notify, which the tests need',
      isThere: () => !tests || (has('systemd-analyze') && has('systemd-notify')),
      debian: ['systemd'],
      elsewhere: 'the tests of units need systemd',
    },
    {
      what: 'the command curl, which the tests need',
      isThere: () => !tests || has('curl'),
      debian: ['curl'],
      elsewhere: "Fedora 'dnf install curl'",
    },
    {
      what: 'a C++ compiler for pkcs11js',
      isThere: () => isInstalled() || has('c++'),
      debian: ['g++'],
      elsewhere: "Fedora 'dnf install gcc-c++', macOS 'xcode-select --install'",
    },
  ];
}

/** Debian only, as root only: elsewhere the caller is told what to install. */
function aptInstall(packages) {
  if (packages.length === 0 || process.getuid?.() !== 0 || !has('apt-get')) return false;
  say(`installing Debian’s ${packages.join(', ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const install = () => run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], env);
  return install() || (run('apt-get', ['update', '-qq'], env) && install());
}

/** npm 9 links a command of none of the optional packages that all have one of that name: then this does. */
function linkNode() {
  if (existsSync(node)) return;
  const modules = join(root, 'node_modules');
  const brought = readdirSync(modules)
    .filter((name) => /^node-(bin-)?(linux|darwin)-/.test(name))
    .map((name) => join(name, 'bin', 'node'))
    .find((file) => existsSync(join(modules, file)));
  if (brought === undefined) return;
  mkdirSync(dirname(node), { recursive: true });
  symlinkSync(join('..', brought), node);
}

function installDependencies() {
  say(
    'installing the packages of package-lock.json (npm ci), each checked by its hash, without their scripts',
  );
  if (!run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']))
    fail("'npm ci' failed, see above; it needs the npm registry");
  say('building pkcs11js');
  if (!run('sh', ['core/build-addon.sh'])) fail('pkcs11js could not be built, see above');
  linkNode();
  if (spawnSync(node, ['--version']).status !== 0)
    fail(
      `npm has no Node for ${process.platform} ${process.arch} among the optional dependencies of package.json`,
    );
  writeFileSync(stampFile, stamp);
}

/** Once for each set-up: what changes later is compiled, and kept, when it is first run. Without it all works, more slowly. */
function compileSources() {
  say('compiling the sources, so that each thread need not');
  const env = { NODE_COMPILE_CACHE: compiled };
  const isWhole = run(node, [join(root, 'core', 'compile.mjs')], env);
  if (!isWhole) say('not all of them could be compiled, see above; the service takes more memory');
  try {
    writeFileSync(compiledFile, stamp);
  } catch (error) {
    say(`what was compiled cannot be kept (${error.message}); the service takes more memory`);
  }
}

const config = configuration();
const missing = wants(config).filter(({ isThere }) => !isThere());
if (config.mode === 'production') {
  const all = [
    ...missing.map(({ what }) => what),
    ...(isInstalled() ? [] : ["the packages of package-lock.json ('npm run setup' installs them)"]),
  ];
  if (all.length > 0)
    fail(`the configuration says production, so nothing is installed; missing: ${all.join('; ')}`);
} else {
  for (const { what, isThere, debian, before, elsewhere } of missing) {
    if (before && process.getuid?.() === 0 && !existsSync(before.file)) {
      mkdirSync(dirname(before.file), { recursive: true });
      writeFileSync(before.file, before.text);
    }
    if (aptInstall(debian) && isThere()) continue;
    const how = debian.length > 0 ? `: Debian 'apt-get install ${debian.join(' ')}', ${elsewhere}` : '';
    fail(`${what} is missing; install it${how}`);
  }
  if (!isInstalled()) installDependencies();
  // What takes packages away (npm prune) takes the link, too.
  linkNode();
  if (!existsSync(compiledFile)) compileSources();
}
