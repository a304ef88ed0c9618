// Takes the steps of the Containerfile without a container engine: each stage in a Debian of its own (debootstrap), its commands in a chroot, then
// the service as the image starts it, its root read-only, as the user that the image names. For root, on Debian, with debootstrap; some minutes.
// Usage: node packaging/try-container.mjs
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const suite = 'bookworm';
/** How long the service has to say that it runs, milliseconds: it makes keys and a ceremony first. */
const startsWithinMs = 60_000;

/** What this machine trusts, for the build alone: the image has its own. */
const trusted = '/etc/ssl/certs/ca-certificates.crt';
const trustedThere = '/trusted-while-building.crt';
const reaches = {
  ...{ NODE_EXTRA_CA_CERTS: trustedThere, NPM_CONFIG_CAFILE: trustedThere },
  ...{ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' },
};

const say = (text) => process.stdout.write(`${text}\n`);
function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2], ...options });
  if (status !== 0) throw error ?? new Error(`${command} ${args.join(' ')} ended with ${status}`);
}

/** Instructions of a Containerfile, one a line, continued lines joined. */
const instructions = readFileSync(join(root, 'packaging/Containerfile'), 'utf8')
  .replaceAll(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((line) => line.trim() !== '')
  .map((line) => /^(?<name>[A-Z]+) (?<text>.*)$/.exec(line)?.groups ?? { name: 'none', text: line });

/** The packages' source that this machine has. */
function mirror() {
  const folder = '/etc/apt/sources.list.d';
  const files = [
    '/etc/apt/sources.list',
    ...(existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []),
  ];
  const text = files
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
  const found = /^(?:URIs: |deb (?:\[[^\]]*\] )?)(https?:\/\/\S+)/m.exec(text)?.[1];
  if (found === undefined) throw new Error('no source of Debian packages is configured on this machine');
  return found;
}

/** A new Debian, which reaches what this machine reaches. */
function debian(folder) {
  run('debootstrap', ['--variant=minbase', suite, folder, mirror()]);
  for (const file of ['/etc/resolv.conf', '/etc/hosts'])
    cpSync(file, join(folder, file), { dereference: true });
  if (existsSync(trusted)) cpSync(trusted, join(folder, trustedThere), { dereference: true });
  for (const name of readdirSync('/etc/apt/apt.conf.d').filter((each) => /^99/.test(each)))
    cpSync(join('/etc/apt/apt.conf.d', name), join(folder, 'etc/apt/apt.conf.d', name));
}

/** What the image sets, and where it is, as its instructions come. */
function build(work) {
  const stages = new Map();
  let stage;
  for (const { name, text } of instructions) {
    say(`${name} ${text}`);
    if (name === 'FROM') {
      const [, called = `stage-${stages.size}`] = / AS (\S+)$/.exec(text) ?? [];
      stage = {
        folder: join(work, called),
        workdir: '/',
        user: 'root',
        env: {},
        entrypoint: [],
        command: [],
      };
      stages.set(called, stage);
      debian(stage.folder);
    } else step(stage, stages, name, text);
  }
  return stage;
}

function step(stage, stages, name, text) {
  if (name === 'WORKDIR') {
    stage.workdir = text;
    mkdirSync(join(stage.folder, text), { recursive: true });
  } else if (name === 'COPY') copyInto(stage, stages, text);
  else if (name === 'RUN') inChroot(stage.folder, `cd ${stage.workdir} && ${text}`);
  else if (name === 'USER') stage.user = text;
  else if (name === 'ENV')
    Object.assign(stage.env, Object.fromEntries(text.split(' ').map((pair) => pair.split('='))));
  else if (name === 'ENTRYPOINT') stage.entrypoint = JSON.parse(text);
  else if (name === 'CMD') stage.command = JSON.parse(text);
  else if (name === 'VOLUME') stage.volume = text;
  else if (!['EXPOSE', 'STOPSIGNAL'].includes(name))
    throw new Error(`an instruction that is not known here: ${name}`);
}

function copyInto(stage, stages, text) {
  const [, from] = /^--from=(\S+) /.exec(text) ?? [];
  const words = text.replace(/^--from=\S+ /, '').split(' ');
  const to = words.pop();
  const target = join(stage.folder, to.startsWith('/') ? to : join(stage.workdir, to));
  for (const word of words) {
    if (from !== undefined)
      cpSync(join(stages.get(from).folder, word), target, { recursive: true, verbatimSymlinks: true });
    else if (word === '.')
      // What git knows: .dockerignore leaves out the same.
      run('sh', ['-c', `git ls-files -z | tar --null -T - -c | tar -x -C '${target}'`], { cwd: root });
    else {
      const isFolder = to.endsWith('/');
      mkdirSync(isFolder ? target : dirname(target), { recursive: true });
      cpSync(join(root, word), isFolder ? join(target, word.split('/').pop()) : target);
    }
  }
}

const inChroot = (folder, script) =>
  run(
    'unshare',
    [
      '--mount',
      '--pid',
      '--fork',
      '--mount-proc',
      'sh',
      '-c',
      `mount -t proc proc '${folder}/proc' && mount --bind /dev '${folder}/dev' && exec chroot '${folder}' sh -c "$0"`,
      script,
    ],
    { env: reaches },
  );

/** Starts it as an engine would: nothing but its volume and /tmp can be written. Ends it then. */
async function serve({ folder, workdir, user, env, entrypoint, command, volume }) {
  const devices = ['null', 'zero', 'random', 'urandom'].map((name) => `${folder}/dev/${name}`);
  const mounts = [
    `mount -t proc proc '${folder}/proc'`,
    `mount -t tmpfs -o mode=755 tmpfs '${folder}/dev'`,
    ...devices.map((file) => `touch '${file}' && mount --bind '${file.slice(folder.length)}' '${file}'`),
    `mount --rbind '${folder}' '${folder}' && cd '${folder}'`,
    `mount --bind '${folder}${volume}' '${folder}${volume}'`,
    `mount -o remount,bind,ro '${folder}'`,
    `mount -t tmpfs tmpfs '${folder}/tmp'`,
    'exec "$@"',
  ];
  const set = Object.entries({ PATH: reaches.PATH, HOME: volume, ...env }).map(
    ([name, value]) => `${name}=${value}`,
  );
  const starts = [
    'chroot',
    `--userspec=${user}`,
    folder,
    'env',
    '-i',
    '-C',
    workdir,
    ...set,
    ...entrypoint,
    ...command,
  ];
  const isolated = ['--mount', '--pid', '--fork', '--kill-child'];
  const child = spawn('unshare', [...isolated, 'sh', '-ec', mounts.join('\n'), 'sh', ...starts], {
    stdio: ['ignore', 'pipe', 2],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const said = new Promise((resolve) => {
    child.stdout.on('data', (part) => String(part).includes('Warifu is running') && resolve('running'));
    child.once('exit', (code) => resolve(`ended with ${code}`));
    setTimeout(() => resolve('said nothing in time'), startsWithinMs);
  });
  const state = await said;
  try {
    if (state !== 'running') throw new Error(`the service ${state}`);
    for (const [service, port] of [
      ['OCSP', 8080],
      ['CRL', 8081],
    ]) {
      const { status } = await fetch(`http://127.0.0.1:${port}/ready`);
      if (status !== 200) throw new Error(`${service} is not ready: ${status}`);
    }
    say(`the service runs as ${user} on a read-only root, and OCSP and CRLs are ready`);
  } finally {
    // unshare takes no other signal; with it goes all that runs in its namespace.
    child.kill('SIGKILL');
    await ended;
  }
}

if (process.getuid() !== 0) throw new Error('this makes a Debian below a folder: run it as root');
const work = mkdtempSync(join(tmpdir(), 'warifu-image-'));
try {
  await serve(build(work));
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.exit();
