import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import { cardRequest, derOf, fetchCrl, namedClient, ocspRequest, pemOf } from '../../test/support/actors.ts';
import { configure, startProcess } from '../../test/support/service-process.ts';
import { bindClients } from '../load/clients.ts';
import { KeyFactory } from '../load/keys.ts';
import { cores, median, residentOctets, spawnOn } from '../load/measure.ts';

interface FloodRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: string;
  readonly type?: string;
}

interface Flood {
  readonly url: string;
  readonly connections: number;
  readonly tls?: { readonly key?: string; readonly cert?: string; readonly ca: string };
  readonly localAddress: string;
  readonly requests: readonly FloodRequest[];
}

const json = 'application/json';
const encoded = (body: object): string => Buffer.from(JSON.stringify(body)).toString('base64');

/** Who asks: each is a client of its own. */
const roles = {
  revoker: 'revoker',
  'honest-clerk': 'issuer',
  'honest-reader': 'reader',
  'flood-issuer': 'issuer',
  'flood-portal': 'issuer',
  'flood-reader': 'reader',
  'flood-revoker': 'revoker',
} as const;

/** Connections of each flooding client. */
const connections = 64;
/** Of fewer the worst percent says nothing. */
const revocationsMin = 50;
/** Between two requests of one who does honest work meanwhile. */
const honestMs = 250;

/**
 * How long a revocation takes while every other route, and the OCSP and CRL ports, are flooded: by one registered client on each kind of
 * route, and by strangers; how much memory that takes; and how many requests of honest clients are refused.
 */
export async function benchFlood({ seconds }: { readonly seconds: number }): Promise<Record<string, number>> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-flood-'));
  const folder = join(scratch, 'data');
  const addresses = await configure(folder);
  const service = await startProcess(folder, addresses);
  process.once('exit', () => service.child.kill('SIGKILL'));
  const api = namedClient(folder, addresses.api, 'first');
  const client = await bindClients({ folder, address: addresses.api, api }, roles);
  // A revocation each 50 ms or more slowly, in both halves.
  const count = seconds * 20;
  const keys = new KeyFactory(Math.ceil(Math.sqrt((2 * count + 4 * seconds + 60) * 4)) + 8);
  const request = (i: number) =>
    cardRequest(
      { signing: keys.next(), authentication: keys.next() },
      { holderId: `holder-${i}`, cardId: `card-${i}` },
    );
  const issued: Issued[] = [];
  for (let i = 0; i < 2 * count; i += 8) {
    const eight = Array.from({ length: Math.min(8, 2 * count - i) }, (_, j) => request(i + j));
    const answers = await Promise.all(eight.map((body) => api.post<Issued>('/card-certificates', body)));
    issued.push(...answers.map(({ body }) => body));
  }
  const floods = await floodsOf({ folder, addresses, issued, request });
  const quiet = await revokeAll(client('revoker'), 0, count, seconds);
  const children = floods.map(startFlood);
  process.once('exit', () => children.forEach(({ child }) => void child.kill('SIGKILL')));
  let rssBytesMax = 0;
  const pid = service.child.pid ?? 0;
  const sampling = setInterval(() => {
    rssBytesMax = Math.max(rssBytesMax, residentOctets(pid));
  }, 100);
  // The floods have begun, and their connections are made.
  await pause(2000);
  const honest = honestWork(client('honest-clerk'), client('honest-reader'), request, issued, seconds);
  const flooded = await revokeAll(client('revoker'), count, count, seconds);
  const { asked, refused } = await honest;
  clearInterval(sampling);
  const counts = children.map(({ said }) => said());
  for (const { child } of children) child.kill('SIGKILL');
  await service.stop();
  rmSync(scratch, { recursive: true, force: true });
  if (flooded.length < revocationsMin)
    throw new Error(`${flooded.length} revocations are too few for a figure: give --seconds more`);
  const sum = (name: 'answered' | 'refused' | 'failed'): number =>
    counts.reduce((total, each) => total + each[name], 0);
  return {
    revokeMsP99: p99(flooded),
    revokeMsP50: median(flooded),
    revocations: flooded.length,
    quietRevokeMsP99: p99(quiet),
    quietRevokeMsP50: median(quiet),
    rssBytesMax,
    othersRefused: refused,
    othersAsked: asked,
    floodAnsweredPerSecond: sum('answered') / (seconds + 2),
    floodRefusedPerSecond: (sum('refused') + sum('failed')) / (seconds + 2),
  };
}

const givenUpMs = 60_000;
const isDone = ({ status }: { readonly status: number }): boolean => status === 200;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const p99 = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * 0.99))] ??
  Number.NaN;

/** One flood for each kind of route, each from an address of its own. */
async function floodsOf(of: {
  readonly folder: string;
  readonly addresses: { readonly api: string; readonly ocsp: string; readonly crl: string };
  readonly issued: readonly Issued[];
  readonly request: (i: number) => object;
}): Promise<Flood[]> {
  const { folder, addresses, issued, request } = of;
  const ca = join(folder, 'tls', 'operations-ca.pem');
  const at = (name: string, address: string) => ({
    ...{ url: addresses.api, connections, localAddress: address },
    tls: { key: join(folder, 'clients', `${name}.key`), cert: join(folder, 'clients', `${name}.pem`), ca },
  });
  const [first] = issued;
  const holder = '/v1/holders/holder-0';
  const [summary] = first?.certificates ?? [];
  const signing = await fetchCrl(`${addresses.crl}/ca/signing-1.cer`);
  const leaf = derOf(pemOf(first as Issued, 'card-signing'));
  const questions = await Promise.all(
    Array.from({ length: 200 }, () => ocspRequest(leaf, signing, { nonce: randomBytes(16) })),
  );
  const dry = (event: string) => encoded({ event, cardId: 'card-0', dryRun: true });
  const card = encoded(request(1_000_000));
  const huge = encoded({ signedEnrolment: randomBytes(45_000).toString('base64') });
  return [
    {
      ...at('flood-issuer', '127.0.0.2'),
      requests: [
        { method: 'POST', path: '/v1/card-certificates', body: card, type: json },
        { method: 'POST', path: '/v1/card-certificates', body: encoded({}), type: json },
      ],
    },
    {
      ...at('flood-portal', '127.0.0.3'),
      requests: [
        { method: 'POST', path: '/v1/phone-challenges' },
        { method: 'POST', path: '/v1/phone-certificates', body: huge, type: json },
      ],
    },
    {
      ...at('flood-reader', '127.0.0.4'),
      requests: [
        { method: 'GET', path: holder },
        { method: 'GET', path: `${holder}/history` },
        { method: 'GET', path: '/v1/renewals?days=9999' },
        { method: 'GET', path: `/v1/certificates/${summary?.authority}/${summary?.serialNumber}` },
      ],
    },
    {
      ...at('flood-revoker', '127.0.0.5'),
      requests: [
        { method: 'POST', path: '/v1/events', body: dry('card-returned'), type: json },
        {
          method: 'POST',
          path: '/v1/restrictions/preview',
          body: encoded({ platform: 'android' }),
          type: json,
        },
      ],
    },
    { url: addresses.api, connections, tls: { ca }, localAddress: '127.0.0.6', requests: [] },
    {
      ...{ url: addresses.ocsp, connections, localAddress: '127.0.0.7' },
      requests: questions.map((question) => ({
        ...{ method: 'POST', path: '/', type: 'application/ocsp-request' },
        body: Buffer.from(question).toString('base64'),
      })),
    },
    {
      ...{ url: addresses.crl, connections, localAddress: '127.0.0.8' },
      requests: [{ method: 'GET', path: '/crl/authority/signing-1.crl' }],
    },
  ];
}

interface Counts {
  readonly answered: number;
  readonly refused: number;
  readonly failed: number;
}

function startFlood(flood: Flood): { readonly child: ChildProcess; readonly said: () => Counts } {
  const script = new URL('../load/flooder.ts', import.meta.url).pathname;
  const file = join(mkdtempSync(join(tmpdir(), 'warifu-flood-')), 'flood.json');
  writeFileSync(file, JSON.stringify(flood));
  // On a core of its own where there are two, so that it is the service that is short of time, and not who measures it.
  const child = spawnOn(cores.load, process.execPath, [script, file]);
  let last: Counts = { answered: 0, refused: 0, failed: 0 };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const line = text.trim().split('\n').at(-1);
    if (line) last = JSON.parse(line) as Counts;
  });
  return { child, said: () => last };
}

/** Revokes one card after the other, evenly over the time; how long each took, milliseconds. */
async function revokeAll(api: CaClient, from: number, count: number, seconds: number): Promise<number[]> {
  const took: number[] = [];
  const startMs = performance.now();
  for (let i = 0; i < count && performance.now() - startMs < seconds * 1000; i++) {
    const askedMs = performance.now();
    const key = crypto.randomUUID();
    const body = { event: 'card-returned', cardId: `card-${from + i}` };
    // What fails is sent again, as a register would: it lasts until it is done.
    while (!(await api.post('/events', body, key).then(isDone, () => false)))
      if (performance.now() - askedMs > givenUpMs)
        throw new Error('a revocation was not answered in a minute');
    took.push(performance.now() - askedMs);
    await pause(Math.max(0, startMs + ((i + 1) * seconds * 1000) / count - performance.now()));
  }
  await api.close();
  return took;
}

/** A clerk who issues, and one who looks up, a few times a second; how many of their requests are refused, or fail. */
async function honestWork(
  clerk: CaClient,
  reader: CaClient,
  request: (i: number) => object,
  issued: readonly Issued[],
  seconds: number,
): Promise<{ readonly asked: number; readonly refused: number }> {
  let [asked, refused] = [0, 0];
  const endMs = performance.now() + seconds * 1000;
  const work = async (act: (i: number) => Promise<{ readonly status: number }>): Promise<void> => {
    for (let i = 0; performance.now() < endMs; i++) {
      asked += 1;
      const isGood = await act(i).then(
        ({ status }) => status < 300,
        () => false,
      );
      if (!isGood) refused += 1;
      await pause(honestMs);
    }
  };
  await Promise.all([
    work((i) => clerk.post('/card-certificates', request(2_000_000 + i))),
    work((i) => reader.get(`/holders/holder-${i % issued.length}`)),
  ]);
  await Promise.all([clerk.close(), reader.close()]);
  return { asked, refused };
}
