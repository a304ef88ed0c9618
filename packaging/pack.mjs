// Makes the three npm packages of this project: the service, compiled, with its commands (warifu), and what its callers use
// (@warifu/client, @warifu/verifier). Two runs on the same sources give the same octets: entries are sorted, and have neither times, owners nor
// this machine's modes. Usage: node packaging/pack.mjs [FOLDER [NAME...]], by default dist
// and all three, as warifu, warifu-client and warifu-verifier.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** The programs of the service's package, by their commands. */
const commands = { warifu: 'ca/main.js', 'warifu-ocsp': 'ocsp/main.js', 'warifu-crl': 'crl/main.js' };
/** As npm dates what it packs. */
const packedAt = new Date('1985-10-26T08:15:00Z');

function run(command, args, cwd) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}`);
}

const node = process.execPath;
const compile = (project, ...args) =>
  run(node, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project, ...args], root);
const filesOf = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();

const rooms = ['ca', 'core', 'crl', 'hsm', 'ocsp', 'store'];

/** The service: its sources without types, and what they read. */
function buildService(folder) {
  const sources = mkdtempSync(join(tmpdir(), 'warifu-sources-'));
  try {
    copy(sources, ...rooms, 'package.json', 'tsconfig.json', 'packaging/tsconfig.json');
    symlinkSync(join(root, 'node_modules'), join(sources, 'node_modules'));
    compile(join(sources, 'packaging/tsconfig.json'), '--outDir', folder);
  } finally {
    rmSync(sources, { recursive: true });
  }
  for (const name of filesOf(folder).filter((each) => each.endsWith('.js'))) {
    const file = join(folder, name);
    const text = readFileSync(file, 'utf8');
    // Programs of threads and processes are named by their address, which the compiler leaves as it is.
    writeFileSync(
      file,
      text.replaceAll(/new URL\('(\.[^']+)\.ts', import\.meta\.url\)/g, "new URL('$1.js', import.meta.url)"),
    );
  }
  const data = tracked(...rooms).filter(
    (name) => /\.json$/.test(name) && !/package\.json$|tsconfig|^ca\/sdk\/|^core\/verifier\//.test(name),
  );
  copy(
    folder,
    ...data,
    'ca/console',
    'docs',
    ':!docs/.vitepress',
    'packaging/systemd',
    'core/build-addon.sh',
  );
  copy(folder, 'README.md', 'CHANGELOG.md', 'LICENSE', 'SECURITY.md');
  const shell = readFileSync(join(root, 'packaging/command.sh'), 'utf8');
  mkdirSync(join(folder, 'bin'));
  for (const [name, main] of Object.entries(commands))
    writeFileSync(join(folder, 'bin', name), shell.replaceAll('@NAME@', name).replaceAll('@MAIN@', main));
  const { name, version, description, license, type, engines, dependencies, optionalDependencies } =
    JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const bin = Object.fromEntries(Object.keys(commands).map((each) => [each, `bin/${each}`]));
  // Behind that of pkcs11js, whose node-gyp may be a distribution's.
  const scripts = { postinstall: 'sh core/build-addon.sh' };
  const own = { name, version, description, license, type, engines, bin, scripts };
  Object.assign(own, { dependencies, optionalDependencies });
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(own, null, 2)}\n`);
}

/** Files that git knows, below these names; nothing else is packed, whatever lies in the folder. */
function tracked(...names) {
  const { status, stdout, stderr } = spawnSync('git', ['ls-files', '-z', '--', ...names], {
    cwd: root,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`packages are made of what git knows, in its checkout: ${stderr}`);
  return stdout.split('\0').filter((name) => name !== '');
}

function copy(folder, ...names) {
  for (const name of tracked(...names)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join(root, name), join(folder, name));
  }
}

/** A package that is built where its sources are, by its own package.json; out of a copy, so that nothing is left there. */
function buildLibrary(place, folder) {
  const work = mkdtempSync(join(tmpdir(), 'warifu-library-'));
  try {
    copy(work, 'ca', 'core', 'package.json', 'tsconfig.json');
    const own = join(work, place);
    if (place === 'ca/sdk') run(node, ['generate.mjs'], own);
    compile(join(own, 'tsconfig.json'), '--typeRoots', join(root, 'node_modules/@types'));
    const { files } = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8'));
    for (const name of [...files, 'package.json'])
      cpSync(join(own, name), join(folder, name), { recursive: true });
    cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** The tarball of a folder, as npm has them: everything is below `package/`. */
async function tarball(folder) {
  const archive = pack();
  const parts = [];
  const read = (async () => {
    for await (const part of archive) parts.push(part);
  })();
  for (const name of filesOf(folder)) {
    const entry = { name: `package/${name}`, mode: name.startsWith('bin/') ? 0o755 : 0o644, mtime: packedAt };
    archive.entry(entry, readFileSync(join(folder, name)));
  }
  archive.finalize();
  await read;
  return gzipSync(Buffer.concat(parts), { level: 9 });
}

const builds = {
  warifu: buildService,
  'warifu-client': (folder) => buildLibrary('ca/sdk', folder),
  'warifu-verifier': (folder) => buildLibrary('core/verifier', folder),
};
const [named = join(root, 'dist'), ...wanted] = process.argv.slice(2);
const out = resolve(named);
mkdirSync(out, { recursive: true });
for (const [name, build] of Object.entries(builds)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const folder = mkdtempSync(join(tmpdir(), 'warifu-pack-'));
  try {
    build(folder);
    const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const octets = await tarball(folder);
    const file = join(out, `${name}-${version}.tgz`);
    writeFileSync(file, octets);
    process.stdout.write(`${createHash('sha256').update(octets).digest('hex')}  ${file}\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
