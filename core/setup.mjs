// Brings a fresh machine to the point where the project runs: `npm start`, `npm run demo` and `npm test` call
// it first. Plain JavaScript without imports of ours: it runs on whatever old Node the machine has, before any
// dependency exists. A second run finds its stamp and does nothing.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const lock = readFileSync(join(root, 'package-lock.json'));
const stampFile = join(root, 'node_modules', '.warifu-setup');
const stamp = createHash('sha256').update(lock).digest('hex');

/** Where distributions put SoftHSM's PKCS#11 module; the service looks in the same places. */
const softhsmPaths = JSON.parse(readFileSync(join(root, 'hsm', 'softhsm-paths.json'), 'utf8'));

function run(command, args, env = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env: { ...process.env, ...env },
  });
  return result.status === 0;
}

function fail(problem, debian, fedora, macos) {
  process.stderr.write(
    `warifu set-up: ${problem}. Install it: Debian 'apt-get install ${debian}', Fedora 'dnf install ${fedora}', macOS '${macos}'\n`,
  );
  process.exit(1);
}

function has(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;
}

/** Debian only, as root only: elsewhere the caller is told what to install. */
function aptInstall(packages) {
  if (process.getuid?.() !== 0 || !has('apt-get')) return false;
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const install = () => run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], env);
  return install() || (run('apt-get', ['update', '-qq'], env) && install());
}

const module = process.env.WARIFU_PKCS11_MODULE;
if (module ? !existsSync(module) : !softhsmPaths.some((path) => existsSync(path))) {
  if (module)
    fail(
      `WARIFU_PKCS11_MODULE names ${module}, which does not exist`,
      'softhsm2',
      'softhsm',
      'brew install softhsm',
    );
  if (!aptInstall(['softhsm2'])) {
    fail('no PKCS#11 module (SoftHSM) found', 'softhsm2', 'softhsm', 'brew install softhsm');
  }
}
if (!has('openssl') && !aptInstall(['openssl'])) {
  fail('the openssl command is missing', 'openssl', 'openssl', 'brew install openssl');
}

// Judges of what we emit, for the tests alone.
if (process.argv.includes('--tests') && !has('ocsptool') && !aptInstall(['gnutls-bin'])) {
  fail('the tests need GnuTLS’s ocsptool and certtool', 'gnutls-bin', 'gnutls-utils', 'brew install gnutls');
}

if (!existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== stamp) {
  // pkcs11js is compiled on the machine.
  const compiler = ['python3', 'make', 'g++'];
  if (!compiler.every(has) && !aptInstall(compiler)) {
    fail(
      'a C++ compiler, make and python3 are needed',
      compiler.join(' '),
      'python3 make gcc-c++',
      'xcode-select --install',
    );
  }
  if (!run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])) {
    process.stderr.write("warifu set-up: 'npm ci' failed, see above; it needs the npm registry\n");
    process.exit(1);
  }
  const node = spawnSync(join(root, 'node_modules', '.bin', 'node'), ['--version'], { encoding: 'utf8' });
  if (!/^v2[4-9]\./.test(node.stdout ?? '')) {
    process.stderr.write(
      "warifu set-up: the npm package 'node' did not install its binary; allow its install script\n",
    );
    process.exit(1);
  }
  writeFileSync(stampFile, stamp);
}
