import { execFileSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import autocannon from 'autocannon';
import { subjectPublicKeyBits } from '../core/algorithms.ts';
import { digest } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import {
  context,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tlv,
  unsignedInteger,
} from '../core/der-writer.ts';
import { extension } from '../core/extension.ts';
import { oid } from '../core/oids.ts';
import { SerialCipher } from '../core/serial.ts';
import { presignedPath } from '../ocsp/presigner.ts';
import type { RawSign } from './ceilings.ts';
import { Generator, get, type LoadResult, post } from './load.ts';
import { cores, hasCommand, median, outputOf, spawnOn, startScript } from './measure.ts';
import type { OcspServerOptions, OcspServerSaid } from './ocsp-server.ts';
import { freePort } from './service-process.ts';

export interface OcspBenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Certificates in the index, from which live ones are drawn. */
  readonly certificates: number;
  /** Distinct certificates asked for again and again. */
  readonly cached: number;
  readonly signing: 'inline' | 'pool';
  /** Whether the responder logs who asked. */
  readonly log: boolean;
}

const sha1 = sequence(objectIdentifier(oid.sha1), nullValue);

/** Makes requests about an issuer's certificates, as clients do. */
export function asker(certificate: Uint8Array) {
  const { subject, publicKey } = parseCertificate(certificate);
  const nameHash = octetString(digest('sha1', subject));
  const keyHash = octetString(digest('sha1', subjectPublicKeyBits(publicKey)));
  return (serial: Uint8Array, nonce?: Uint8Array): Uint8Array => {
    const list = sequence(sequence(sequence(sha1, nameHash, keyHash, unsignedInteger(serial))));
    const nonces = nonce ? [tlv(context(2), sequence(extension(oid.ocspNonce, octetString(nonce))))] : [];
    return sequence(sequence(list, ...nonces));
  };
}

interface Target {
  readonly name: string;
  readonly pid: number;
  readonly generator: Generator;
}

/** Runs every target in turn, round after round, so that a noisy moment touches all of them. */
async function interleave(
  targets: readonly Target[],
  raw: () => Promise<number>,
  { rounds, seconds }: OcspBenchOptions,
): Promise<{ results: Map<string, LoadResult[]>; rawSign: number[] }> {
  const results = new Map<string, LoadResult[]>(targets.map(({ name }) => [name, []]));
  const rawSign: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    for (const { name, pid, generator } of targets) {
      const result = await generator.run(pid, seconds).catch((error: Error) => {
        throw new Error(`${name}: ${error.message}`, { cause: error });
      });
      // The first round warms up: caches are filled and code is compiled.
      if (round > 0) results.get(name)?.push(result);
    }
    if (round > 0) rawSign.push(await raw());
  }
  return { results, rawSign };
}

/** A responder's figures need it to be what was waited for. */
const busyMin = 0.9;

export async function benchOcsp(options: OcspBenchOptions): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-ocsp-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const data = join(folder, 'data');
  const verifiers = options.log ? { log: true, list: [{ name: 'bench', tokenSha256: tokenHash }] } : {};
  const serverOptions: OcspServerOptions = {
    folder: data,
    certificates: options.certificates,
    ocsp: {
      responderSuites: ['p256-sha256'],
      responseValidity: '12h',
      signing: options.signing,
      cacheBytes: 1_000_000_000,
      verifiers,
    },
  };
  const server = await startScript<OcspServerSaid>(cores.server, './ocsp-server.ts', [
    JSON.stringify(serverOptions),
  ]);
  const { said, pid } = server;
  const ask = asker(Buffer.from(said.certificate, 'base64'));
  const cipher = new SerialCipher(1, Buffer.from(said.epochKey, 'base64'));
  const path = options.log ? `/v/${token}` : '/';
  const url = said.address;
  const cachedBodies = Array.from({ length: options.cached }, (_, i) => ask(cipher.encrypt(i)));
  const liveBody = () => ask(cipher.encrypt(randomInt(options.certificates)), randomBytes(32));
  const liveBodies = Array.from({ length: 200_000 }, liveBody);
  const oneAnswer = await answerTo(`${url}${path}`, cachedBodies[0] ?? new Uint8Array());
  const bare = await startScript<string>(cores.server, './ceilings.ts', [
    'bare-http',
    String(oneAnswer.length),
  ]);
  const openssl = await startOpenssl(folder);
  const nginx = hasCommand('nginx') ? await startNginx(folder, cachedBodies, oneAnswer) : null;
  const target = (
    name: string,
    at: { url: string; pid: number },
    requests: readonly Uint8Array[],
  ): Target => ({
    name,
    pid: at.pid,
    generator: new Generator({ url: at.url, requests }),
  });
  const ours = { url, pid };
  const opensslBodies = Array.from({ length: 20_000 }, () => openssl.request());
  const targets = [
    target(
      'cached',
      ours,
      cachedBodies.map((body) => post(body, path)),
    ),
    target(
      'bareHttp',
      { url: bare.said, pid: bare.pid },
      cachedBodies.map((body) => post(body, '/')),
    ),
    ...(nginx ? [target('nginx', nginx, nginx.paths.map(get))] : []),
    target(
      'live',
      ours,
      liveBodies.map((body) => post(body, path)),
    ),
    target(
      'openssl',
      openssl,
      opensslBodies.map((body) => post(body, '/', 'close')),
    ),
    target(
      'liveNewConnections',
      ours,
      liveBodies.map((body) => post(body, path, 'close')),
    ),
  ];
  const rawOptions: RawSign = {
    softhsm: join(data, 'softhsm'),
    tokenLabel: said.tokenLabel,
    pinFile: said.pinFile,
    keyLabel: said.keyLabel,
    suite: 'p256-sha256',
    seconds: options.seconds,
  };
  const raw = async () =>
    Number(
      await outputOf(
        spawnOn(cores.server, process.execPath, [ceilings, 'raw-sign', JSON.stringify(rawOptions)]),
      ),
    );
  // Every certificate once, so that from the first round on all of them are in the cache.
  await new Generator({ url, requests: cachedBodies.map((body) => post(body, path)) }).run(
    pid,
    warmSeconds(options),
  );
  const { results, rawSign } = await interleave(targets, raw, options);
  const autocannonPerSecond = await userSees(
    `${url}${path}`,
    cachedBodies[0] ?? new Uint8Array(),
    options.seconds,
  );
  return figures(results, median(rawSign), autocannonPerSecond);
}

const warmSeconds = ({ cached, signing }: OcspBenchOptions): number =>
  Math.ceil(cached / (signing === 'pool' ? 8000 : 10_000)) + 2;

function figures(
  results: Map<string, LoadResult[]>,
  rawSignPerSecond: number,
  autocannonPerSecond: number,
): Record<string, number> {
  const of = (name: string, key: keyof LoadResult): number =>
    median((results.get(name) ?? []).map((result) => result[key]));
  for (const name of ['cached', 'live', 'liveNewConnections']) {
    const busy = of(name, 'serverBusy');
    if (busy < busyMin)
      throw new Error(`invalid: the server was busy for ${busy.toFixed(2)} of the time only in ${name}`);
  }
  const [cached, bare, live, openssl, nginx] = ['cached', 'bareHttp', 'live', 'openssl', 'nginx'].map(
    (name) => of(name, 'perSecond'),
  ) as [number, number, number, number, number];
  const newConnections = of('liveNewConnections', 'perSecond');
  const withNginx = Number.isNaN(nginx) ? {} : { nginxPerSecond: nginx, cachedToNginx: cached / nginx };
  return {
    cachedPerSecond: cached,
    bareHttpPerSecond: bare,
    cachedToBareHttp: cached / bare,
    livePerSecond: live,
    rawSignPerSecond,
    liveToRawSign: live / rawSignPerSecond,
    opensslPerSecond: openssl,
    liveToOpenssl: live / openssl,
    liveNewConnectionsPerSecond: newConnections,
    liveToOpensslNewConnections: newConnections / openssl,
    ...withNginx,
    p50Ms: of('live', 'p50Ms'),
    p99Ms: of('live', 'p99Ms'),
    p50MsCached: of('cached', 'p50Ms'),
    p99MsCached: of('cached', 'p99Ms'),
    serverCpuMicrosCached: of('cached', 'serverMicros'),
    serverCpuMicrosLive: of('live', 'serverMicros'),
    serverBusyCached: of('cached', 'serverBusy'),
    loadBusyCached: of('cached', 'loadBusy'),
    loadBusyNginx: of('nginx', 'loadBusy'),
    serverBusyLive: of('live', 'serverBusy'),
    serverBusyNewConnections: of('liveNewConnections', 'serverBusy'),
    serverBusyOpenssl: of('openssl', 'serverBusy'),
    autocannonPerSecond,
  };
}

const ceilings = new URL('./ceilings.ts', import.meta.url).pathname;
const token = 'bench-bench-bench-bench';
const tokenHash = Buffer.from(digest('sha256', token)).toString('hex');

async function answerTo(url: string, body: Uint8Array): Promise<Buffer> {
  const headers = { 'content-type': 'application/ocsp-request' };
  const response = await fetch(url, { method: 'POST', headers, body: Buffer.from(body) });
  if (response.status !== 200) throw new Error(`the responder answered HTTP ${response.status}`);
  const answer = Buffer.from(await response.arrayBuffer());
  if (answer.length < 100) throw new Error(`the responder answered ${answer.toString('hex')}`);
  return answer;
}

/** What a user of this bench can see for himself: autocannon, which is busier than what it measures. */
async function userSees(url: string, body: Uint8Array, seconds: number): Promise<number> {
  const result = await autocannon({
    url,
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request' },
    body: Buffer.from(body),
    connections: 64,
    duration: seconds,
  });
  if (result.non2xx > 0 || result.errors > 0) throw new Error('autocannon met errors');
  return result.requests.average;
}

/** Debian's responder with a P-256 key in memory, over an index of a thousand certificates. */
async function startOpenssl(folder: string) {
  const at = join(folder, 'openssl');
  mkdirSync(at);
  const run = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: at, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  run(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    '/CN=ca',
    '-days',
    '9',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  );
  run(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    '/CN=ocsp',
    '-days',
    '9',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-addext',
    'extendedKeyUsage=OCSPSigning',
    '-keyout',
    'ocsp.key',
    '-out',
    'ocsp.pem',
  );
  const serials = Array.from({ length: 1000 }, () => Buffer.concat([Buffer.of(1), randomBytes(16)]));
  const rows = serials.map(
    (serial) =>
      `V\t491231235959Z\t\t${serial.toString('hex').toUpperCase()}\tunknown\t/CN=${serial.toString('hex')}\n`,
  );
  writeFileSync(join(at, 'index.txt'), rows.join(''));
  const certificate = execFileSync('openssl', ['x509', '-in', join(at, 'ca.pem'), '-outform', 'DER']);
  const port = await freePort();
  const files = ['-index', 'index.txt', '-CA', 'ca.pem', '-rkey', 'ocsp.key', '-rsigner', 'ocsp.pem'];
  const child = spawnOn(
    cores.server,
    'openssl',
    ['ocsp', '-port', String(port), ...files, '-ndays', '1', '-ignore_err'],
    at,
  );
  const ask = asker(certificate);
  const request = () => ask(serials[randomInt(serials.length)] ?? Buffer.of(1), randomBytes(32));
  const url = `http://127.0.0.1:${port}`;
  await untilAnswers(() => answerTo(url, request()));
  return { url, pid: child.pid ?? 0, request };
}

/** nginx with the answers as static files: as many as it may have open at once, so that it opens none while it answers. */
async function startNginx(folder: string, all: readonly Uint8Array[], answer: Buffer) {
  const root = join(folder, 'static');
  const open = Math.floor(openFilesMax() * 0.75);
  const bodies = all.slice(0, open);
  const paths = bodies.map((body) => `/${Buffer.from(body).toString('base64')}`);
  for (const body of bodies) {
    const file = join(root, presignedPath(body));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, answer);
  }
  const port = await freePort();
  const config = join(folder, 'nginx.conf');
  writeFileSync(
    config,
    `user root; worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log crit; worker_rlimit_nofile ${openFilesMax()};
    events { worker_connections 1024; }
    http { access_log off; keepalive_requests 1000000000; open_file_cache max=${open + 1} inactive=10m; open_file_cache_valid 10m;
      open_file_cache_min_uses 1; default_type application/ocsp-response; sendfile on; tcp_nodelay on;
      server { listen 127.0.0.1:${port}; root ${root}; } }`,
  );
  spawnOn(cores.server, 'nginx', ['-c', config, '-p', folder]);
  const url = `http://127.0.0.1:${port}`;
  await untilAnswers(async () => {
    const response = await fetch(`${url}${paths[0]?.replaceAll('+', '%2B')}`);
    if (response.status !== 200) throw new Error(`nginx answered ${response.status}`);
  });
  const pid = Number(execFileSync('pgrep', ['-f', 'nginx: worker'], { encoding: 'utf8' }).split('\n')[0]);
  return { url, pid, paths };
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
