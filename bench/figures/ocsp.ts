import { randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import autocannon from 'autocannon';
import { SerialCipher } from '../../core/crypto/serial.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { Generator, get, type LoadResult, post } from '../load/load.ts';
import { cores, hasCommand, median, outputOf, spawnOn, startScript } from '../load/measure.ts';
import { noteDisturbance } from '../report/steadiness.ts';
import { tell } from '../report/told.ts';
import { answerTo, asker, startNginx, startOpenssl } from '../rivals/rivals.ts';
import type { RawSign } from './ceilings.ts';
import type { OcspServerOptions, OcspServerSaid } from './ocsp-server.ts';

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

interface Target {
  readonly name: string;
  readonly generator: Generator;
  /** Process that serves it. */
  readonly pid: number | (() => Promise<number>);
  /** Ends what `pid` started. */
  readonly stop?: () => void;
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
    tell(`answers, round ${round} of ${rounds}`);
    for (const { name, pid, generator, stop } of targets) {
      const server = typeof pid === 'number' ? pid : await pid();
      const result = await generator.run(server, seconds).catch((error: Error) => {
        throw new Error(`${name}: ${error.message}`, { cause: error });
      });
      stop?.();
      // The first round warms up: caches are filled and code is compiled.
      if (round > 0) results.get(name)?.push(result);
    }
    if (round > 0) rawSign.push(await raw());
  }
  return { results, rawSign };
}

/** Figures say something where the server was what was waited for. Connecting costs a client nearly as much. */
const busyAtLeast = { cached: 0.85, live: 0.85, liveNewConnections: 0.8 } as const;

/** A responder of ours in a process of its own, and what is needed to ask it. */
async function startResponder(folder: string, options: OcspBenchOptions, cacheBytes: number) {
  const verifiers = options.log ? { log: true, list: [{ name: 'bench', tokenSha256: tokenHash }] } : {};
  const serverOptions: OcspServerOptions = {
    folder,
    certificates: options.certificates,
    ocsp: {
      responderSuites: ['p256-sha256'],
      responseValidity: '12h',
      signing: options.signing,
      cacheBytes,
      verifiers,
    },
  };
  const { said, pid } = await startScript<OcspServerSaid>(
    // A signing thread is of use on a core of its own only; the load generator then shares it.
    options.signing === 'pool' ? `${cores.server},${cores.load}` : cores.server,
    new URL('./ocsp-server.ts', import.meta.url),
    [JSON.stringify(serverOptions)],
  );
  const ask = asker(Buffer.from(said.certificate, 'base64'));
  const cipher = new SerialCipher(1, Buffer.from(said.epochKey, 'base64'));
  const path = options.log ? `/v/${token}` : '/';
  return { url: said.address, pid, said, ask, cipher, path };
}

export async function benchOcsp(options: OcspBenchOptions): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-ocsp-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  // Two processes: with a hundred thousand kept answers in the same process, signing pays for their garbage collection.
  const keeping = await startResponder(join(folder, 'keeping'), options, 1_000_000_000);
  const signing = await startResponder(join(folder, 'signing'), options, 1_000_000);
  const cachedBodies = Array.from({ length: options.cached }, (_, i) =>
    keeping.ask(keeping.cipher.encrypt(i)),
  );
  const liveBodies = Array.from({ length: 200_000 }, () =>
    signing.ask(signing.cipher.encrypt(randomInt(options.certificates)), randomBytes(32)),
  );
  const first = cachedBodies[0] ?? new Uint8Array();
  const oneAnswer = await answerTo(`${keeping.url}${keeping.path}`, first);
  const bare = await startScript<string>(cores.server, new URL('./ceilings.ts', import.meta.url), [
    'bare-http',
    String(oneAnswer.length),
  ]);
  const openssl = await startOpenssl(folder);
  const nginx = hasCommand('nginx') ? await startNginx(folder, cachedBodies, oneAnswer) : null;
  const target = (
    name: string,
    at: { readonly url: string } & Pick<Target, 'pid' | 'stop'>,
    requests: readonly Uint8Array[],
    by: 'wrk' | 'own' = 'wrk',
  ): Target => ({ ...at, name, generator: new Generator({ url: at.url, requests, by }) });
  const posted = (
    bodies: readonly Uint8Array[],
    path: string,
    connection: 'keep-alive' | 'close' = 'keep-alive',
  ) => bodies.map((body) => post(body, path, connection));
  const opensslBodies = Array.from({ length: 20_000 }, () => openssl.request());
  const cached = target('cached', keeping, posted(cachedBodies, keeping.path));
  const targets = [
    cached,
    target('bareHttp', { url: bare.said, pid: bare.pid }, posted(cachedBodies, '/')),
    ...(nginx ? [target('nginx', nginx, nginx.paths.map(get))] : []),
    target('live', signing, posted(liveBodies, signing.path)),
    target('openssl', openssl, posted(opensslBodies, '/', 'close'), 'own'),
    target('liveNewConnections', signing, posted(liveBodies, signing.path, 'close'), 'own'),
  ];
  // Every certificate once, so that from the first round on all of them are in the cache.
  await cached.generator.run(keeping.pid, warmSeconds(options));
  const raw = () => rawSignatures(join(folder, 'signing', 'softhsm'), signing.said, options.seconds);
  const { results, rawSign } = await interleave(targets, raw, options);
  const autocannonPerSecond = await userSees(`${keeping.url}${keeping.path}`, first, options.seconds);
  return figures(results, median(rawSign), autocannonPerSecond);
}

/** Signatures a second by the responder's own key, with nothing around them. */
export async function rawSignatures(softhsm: string, said: OcspServerSaid, seconds: number): Promise<number> {
  const { tokenLabel, pinFile, keyLabel } = said;
  const raw: RawSign = { softhsm, tokenLabel, pinFile, keyLabel, suite: 'p256-sha256', seconds };
  const child = spawnOn(cores.server, process.execPath, [ceilings, 'raw-sign', JSON.stringify(raw)]);
  return Number(await outputOf(child));
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
  for (const [name, busyMin] of Object.entries(busyAtLeast)) {
    const busy = of(name, 'serverBusy');
    if (busy < busyMin)
      noteDisturbance(`the server was busy for ${busy.toFixed(2)} of the time only in ${name}`);
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
    loadBusyOpenssl: of('openssl', 'loadBusy'),
    loadBusyNewConnections: of('liveNewConnections', 'loadBusy'),
    autocannonPerSecond,
  };
}

const ceilings = new URL('./ceilings.ts', import.meta.url).pathname;
const token = 'bench-bench-bench-bench';
const tokenHash = Buffer.from(digest('sha256', token)).toString('hex');

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
