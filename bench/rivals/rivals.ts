import { type ChildProcess, execFileSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { certIdIssuer, encodeOcspRequest } from '../../ocsp/protocol/request.ts';
import { presignedPath } from '../../ocsp/sign/presigner.ts';
import { freePort } from '../../test/support/service-process.ts';
import { cores, spawnOn } from '../load/measure.ts';

// What others do on this machine, and how all of them are asked.

/** Makes requests about an issuer's certificates, as clients do. */
export function asker(certificate: Uint8Array) {
  const issuer = certIdIssuer(certificate, 'sha1');
  return (serial: Uint8Array, nonce?: Uint8Array): Uint8Array => encodeOcspRequest(issuer, serial, nonce);
}

/** The response to one request; throws for an HTTP error and for an OCSP one. */
export async function answerTo(url: string, body: Uint8Array): Promise<Buffer> {
  const headers = { 'content-type': 'application/ocsp-request' };
  const response = await fetch(url, { method: 'POST', headers, body: Buffer.from(body) });
  if (response.status !== 200) throw new Error(`the responder answered HTTP ${response.status}`);
  const answer = Buffer.from(await response.arrayBuffer());
  if (answer.length < 100) throw new Error(`the responder answered ${answer.toString('hex')}`);
  return answer;
}

/** Debian's responder with a P-256 key in memory, over an index of a thousand certificates. */
export async function startOpenssl(folder: string) {
  const at = join(folder, 'openssl');
  mkdirSync(at);
  const run = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: at, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const certify = (name: string, ...options: string[]): void => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
    run('req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '9', '-out', `${name}.pem`, ...options);
  };
  certify('ca');
  certify('ocsp', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', 'extendedKeyUsage=OCSPSigning');
  const serials = Array.from({ length: 1000 }, () => Buffer.concat([Buffer.of(1), randomBytes(16)]));
  const rows = serials.map(
    (serial) =>
      `V\t491231235959Z\t\t${serial.toString('hex').toUpperCase()}\tunknown\t/CN=${serial.toString('hex')}\n`,
  );
  writeFileSync(join(at, 'index.txt'), rows.join(''));
  const certificate = execFileSync('openssl', ['x509', '-in', join(at, 'ca.pem'), '-outform', 'DER']);
  const port = await freePort();
  const files = ['-index', 'index.txt', '-CA', 'ca.pem', '-rkey', 'ocsp.key', '-rsigner', 'ocsp.pem'];
  const ask = asker(certificate);
  const request = () => ask(serials[randomInt(serials.length)] ?? Buffer.of(1), randomBytes(32));
  const url = `http://127.0.0.1:${port}`;
  let child: ChildProcess | undefined;
  // Again for each run: clients that leave in the middle of a request make it turn on the spot.
  const start = async (): Promise<number> => {
    const args = ['ocsp', '-port', String(port), ...files, '-ndays', '1', '-ignore_err'];
    child = spawnOn(cores.server, 'openssl', args, at);
    await untilAnswers(() => answerTo(url, request()));
    return child.pid ?? 0;
  };
  return { url, request, pid: start, stop: () => child?.kill('SIGKILL') };
}

/** nginx with the answers as static files: as many as it may have open at once, so that it opens none while it answers. */
export async function startNginx(folder: string, all: readonly Uint8Array[], answer: Buffer) {
  const root = join(folder, 'static');
  const open = Math.floor(openFilesMax() * 0.75);
  const bodies = all.slice(0, open);
  const paths = bodies.map((body) => `/${Buffer.from(body).toString('base64')}`);
  for (const body of bodies) {
    const file = join(root, presignedPath(body));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, answer);
  }
  const nginx = await runNginx(folder, {
    root,
    filesOpen: open + 1,
    type: 'application/ocsp-response',
    path: paths[0]?.replaceAll('+', '%2B') ?? '/',
  });
  return { ...nginx, paths };
}

/** nginx on one core, with everything in its favour: one worker, files kept open, no log. Resolves when it gives a file. */
export async function runNginx(
  folder: string,
  options: {
    readonly root: string;
    readonly filesOpen: number;
    readonly type: string;
    readonly path: string;
  },
) {
  const { root, filesOpen, type, path } = options;
  const port = await freePort();
  const config = join(folder, 'nginx.conf');
  writeFileSync(
    config,
    `user root; worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log crit; worker_rlimit_nofile ${openFilesMax()};
    events { worker_connections 1024; }
    http { access_log off; keepalive_requests 1000000000; open_file_cache max=${filesOpen} inactive=10m; open_file_cache_valid 10m;
      open_file_cache_min_uses 1; default_type ${type}; sendfile on; tcp_nopush on; tcp_nodelay on;
      server { listen 127.0.0.1:${port}; root ${root}; } }`,
  );
  spawnOn(cores.server, 'nginx', ['-c', config, '-p', folder]);
  const url = `http://127.0.0.1:${port}`;
  await untilAnswers(async () => {
    const response = await fetch(`${url}${path}`);
    if (response.status !== 200) throw new Error(`nginx answered ${response.status}`);
  });
  const pid = Number(execFileSync('pgrep', ['-f', 'nginx: worker'], { encoding: 'utf8' }).split('\n')[0]);
  return { url, pid };
}

function openFilesMax(): number {
  const match = /Max open files\s+\d+\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'));
  return Number(match?.[1] ?? 1024);
}

async function untilAnswers(probe: () => Promise<unknown>): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  for (;;) {
    try {
      await probe();
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}
