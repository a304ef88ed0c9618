import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import { performCeremony } from '../../ca/node/ceremony.ts';
import { layout } from '../../ca/node/layout.ts';
import { openAuthorities, openNode } from '../../ca/node/wiring.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { parseCrl } from '../../core/asn1/crl-reader.ts';
import {
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  unsignedInteger,
} from '../../core/asn1/der-writer.ts';
import { oid } from '../../core/asn1/oids.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { entriesOf } from '../../crl/encode/entries.ts';
import {
  askOcsp,
  base64,
  cardRequest,
  defaultDevice,
  derOf,
  enrolmentContent,
  namedClient,
  pemOf,
  signEnrolment,
} from '../../test/support/actors.ts';
import { configure, startProcess } from '../../test/support/service-process.ts';
import { KeyFactory } from '../load/keys.ts';
import { cpuMicros } from '../load/measure.ts';
import { authorities, certificatesOfShard, model, populatePhones } from './restrict-record.ts';

/** Phones of the model that go on enrolling while all of it is being held. */
const racers = 40;
const sampled = 50;
/** How long all of it may take before the bench gives up. */
const withinMs = 900_000;

interface Restriction {
  readonly restrictionId: string;
  readonly state: string;
  readonly acts: readonly { readonly actId: string; readonly state: string; readonly certificates: number }[];
}

/**
 * Holds all phones of one model while others of it enrol: how fast, and when the first and the last are seen held in OCSP.
 * Rejects where a phone of the model ends up with a certificate that is good.
 */
export async function benchRestrict({
  devices,
}: {
  readonly devices: number;
}): Promise<Record<string, number>> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-restrict-'));
  try {
    return await measure(join(scratch, 'data'), devices);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function measure(folder: string, devices: number): Promise<Record<string, number>> {
  const addresses = await configure(folder);
  await performCeremony({ folder, clock: systemClock });
  const first = populatePhones(layout(folder).record, devices);
  const ask = await asker(folder, first, addresses.ocsp);
  const approver = approverOf(folder);
  const service = await startProcess(folder, addresses);
  process.once('exit', () => service.child.kill('SIGKILL'));
  const api = namedClient(folder, addresses.api, 'first');
  await bind(api, approver);
  const second = namedClient(folder, addresses.api, 'second');
  const racing = await enrolments(api);
  const match = { platform: 'android', models: [model] };
  const preview = await post<{ phones: number }>(api, '/restrictions/preview', match);
  if (preview.phones !== devices) throw new Error(`${preview.phones} phones match, not ${devices}`);
  const lists = listedIn(addresses.crl, devices);
  // What the service made of the phones as it began is over.
  await lists(0);
  if ((await ask(0)) !== 'good') throw new Error('a phone is not good before it is held');
  const step = stepper({ api, second, ask, lists, devices, pid: service.child.pid ?? 0 });
  const race = { under: racing.run() };
  const proposed = await post<Restriction>(api, '/restrictions', { match, note: 'bench' });
  const held = await step(proposed, 'held');
  await race.under;
  const raced = await racing.check();
  const released = await step(await endOf(api, proposed, { action: 'release' }), 'good');
  const again = await post<Restriction>(api, '/restrictions', { match, note: 'bench' });
  await step(again, 'held');
  const revoked = await step(await endOf(api, again, { action: 'revoke' }), 'revoked');
  await second.close();
  await api.close();
  await service.stop();
  return {
    devices,
    firstSeenMs: held.firstSeenMs,
    lastSeenSeconds: held.lastSeenSeconds,
    listedSeconds: held.listedSeconds,
    doneSeconds: held.doneSeconds,
    serverCpuMicrosPerDevice: held.cpuMicrosPerDevice,
    releasedSeenSeconds: released.lastSeenSeconds,
    releasedListedSeconds: released.listedSeconds,
    serverCpuMicrosPerDeviceReleased: released.cpuMicrosPerDevice,
    revokedSeenSeconds: revoked.lastSeenSeconds,
    revokedListedSeconds: revoked.listedSeconds,
    revokedDoneSeconds: revoked.doneSeconds,
    serverCpuMicrosPerDeviceRevoked: revoked.cpuMicrosPerDevice,
    enrolledInRace: raced.enrolled,
    refusedInRace: raced.refused,
  };
}

type State = 'good' | 'held' | 'revoked';

interface Taken {
  readonly firstSeenMs: number;
  readonly lastSeenSeconds: number;
  readonly listedSeconds: number;
  /** Until all phones were counted, and what was to be written of them was written. */
  readonly doneSeconds: number;
  /** CPU of the service until all of it was over. */
  readonly cpuMicrosPerDevice: number;
}

/** Approves what is proposed, and measures until it is seen everywhere. */
function stepper(on: {
  readonly api: CaClient;
  readonly second: CaClient;
  readonly ask: (i: number) => Promise<State | 'mixed'>;
  readonly lists: (listed: 0 | 'all') => Promise<void>;
  readonly devices: number;
  readonly pid: number;
}): (restriction: Restriction, to: State) => Promise<Taken> {
  const { api, second, ask, lists, devices, pid } = on;
  return async ({ restrictionId, acts }, to) => {
    const cpuBefore = cpuMicros(pid);
    const startMs = performance.now();
    const seconds = (): number => (performance.now() - startMs) / 1000;
    await post(second, `/mass-acts/${acts.at(-1)?.actId}/approval`, undefined);
    const firstSeenMs = await since(startMs, async () => (await ask(0)) === to);
    const lastSeenSeconds = (await allSeen(ask, devices, to, startMs)) / 1000;
    await lists(to === 'good' ? 0 : 'all');
    const listedSeconds = seconds();
    await finished(api, restrictionId);
    const doneSeconds = seconds();
    return {
      ...{ firstSeenMs, lastSeenSeconds, listedSeconds, doneSeconds },
      cpuMicrosPerDevice: (cpuMicros(pid) - cpuBefore) / devices,
    };
  };
}

const endOf = (api: CaClient, { restrictionId }: Restriction, action: object): Promise<Restriction> =>
  post<Restriction>(api, `/restrictions/${restrictionId}/end`, action);

/** Resolves once the CRLs of all shards list all of their phones, or none. */
function listedIn(address: string, devices: number): (listed: 0 | 'all') => Promise<void> {
  const shards = Math.ceil(devices / certificatesOfShard);
  const urls = Array.from({ length: shards }, (_, number) =>
    ['phone-signing', 'phone-authentication'].map((kind) => ({
      url: `${address}/crl/${kind}/1/13113/${number}.crl`,
      all: Math.min(certificatesOfShard, devices - number * certificatesOfShard),
    })),
  ).flat();
  return async (listed) => {
    const startMs = performance.now();
    for (const { url, all } of urls)
      await since(
        startMs,
        async () => {
          const answer = await fetch(url);
          const octets = new Uint8Array(await answer.arrayBuffer());
          const { length } = answer.status === 200 ? entriesOf(parseCrl(octets).entries) : [undefined];
          return length === (listed === 0 ? 0 : all);
        },
        100,
      );
  };
}

async function post<T>(api: CaClient, path: string, body: object | undefined): Promise<T> {
  const answer = await api.post<T>(path, body);
  if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

async function since(startMs: number, seen: () => Promise<boolean>, everyMs = 5): Promise<number> {
  while (!(await seen())) {
    if (performance.now() - startMs > withinMs) throw new Error('what was to be held is not');
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return performance.now() - startMs;
}

async function finished(api: CaClient, id: string): Promise<Restriction['acts'][number]> {
  for (;;) {
    const { body } = await api.get<Restriction>(`/restrictions/${id}`);
    const act = body.acts.at(-1);
    if (act?.state === 'done') return act;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** When a sample from all over, both ends among it, is seen so. */
async function allSeen(
  ask: (i: number) => Promise<string>,
  devices: number,
  to: State,
  startMs: number,
): Promise<number> {
  const step = (devices - 1) / (sampled - 1);
  const all = Array.from({ length: sampled }, (_, i) => Math.round(i * step));
  await Promise.all(all.map((at) => since(startMs, async () => (await ask(at)) === to)));
  return performance.now() - startMs;
}

/** Asks OCSP about both certificates of the i-th phone; a request is built by hand, for there is no certificate. */
async function asker(folder: string, first: Readonly<Record<string, number>>, address: string) {
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  const all = await openAuthorities(node);
  const known = authorities.map((name) => all.byName(name));
  // An authority's cipher is all that is used of it from here on.
  await node.close();
  const of = await Promise.all(known.map((authority) => certIds(authority.certificate)));
  return async (i: number): Promise<State | 'mixed'> => {
    const states = new Set<State>();
    for (const [n, authority] of known.entries()) {
      const position = (first[authority.name] ?? 0) + i;
      const serial = authority.serialOf({ epoch: 1, position });
      const certId = of[n]?.(serial) ?? new Uint8Array();
      const request = sequence(sequence(sequence(sequence(certId))));
      states.add(stateIn(Buffer.from(await askOcsp(address, request))));
    }
    const [state, another] = states;
    return another === undefined ? (state ?? 'mixed') : 'mixed';
  };
}

function stateIn(response: Buffer): State {
  if (response.includes(Buffer.from('8000180f', 'hex'))) return 'good';
  // revoked [1] with its time and reason (RFC 6960 §4.2.1).
  const reason = /a116180f[0-9a-f]{30}a0030a01([0-9a-f]{2})/.exec(response.toString('hex'))?.[1];
  if (reason !== undefined) return reason === '06' ? 'held' : 'revoked';
  throw new Error(`OCSP says nothing of a status: ${response.toString('hex').slice(0, 80)}`);
}

async function certIds(certificate: Uint8Array): Promise<(serial: Uint8Array) => Uint8Array> {
  const { subject } = parseCertificate(certificate);
  const spki = new X509Certificate(certificate).publicKey.export({ format: 'jwk' });
  const key = sequence(unsignedInteger(octets(spki.n)), unsignedInteger(octets(spki.e)));
  const hash = (content: Uint8Array) => octetString(createHash('sha256').update(content).digest());
  const algorithm = sequence(objectIdentifier(oid.sha256), nullValue);
  return (serial) => sequence(algorithm, hash(subject), hash(key), unsignedInteger(serial));
}

const octets = (text: string | undefined): Uint8Array => Buffer.from(text ?? '', 'base64url');

/** Makes the certificate of the client that approves; returns its fingerprint. */
function approverOf(folder: string): string {
  const main = new URL('../../ca/main.ts', import.meta.url).pathname;
  const output = execFileSync(process.execPath, [main, 'client', 'second', '--data', folder], {
    encoding: 'utf8',
  });
  return /fingerprint ([0-9a-f]{64})/.exec(output)?.[1] ?? '';
}

const bind = (api: CaClient, fingerprint: string) =>
  post(api, '/clients', { fingerprint, name: 'second', roles: ['revoker'], desks: [] });

/** Enrolments of the model that are prepared before, and sent while the restriction begins. */
async function enrolments(api: CaClient) {
  const keys = new KeyFactory(30);
  const ready: { holderId: string; body: object }[] = [];
  for (let i = 0; i < racers; i++) {
    const holderId = `racer-${i}`;
    const signing = keys.next();
    const card = cardRequest({ signing, authentication: keys.next() }, { holderId, cardId: holderId });
    const issued = await post<Issued>(api, '/card-certificates', card);
    const { challenge } = await post<{ challenge: string }>(api, '/phone-challenges', undefined);
    const deviceId = `racer-${i}`;
    const parts = {
      cardSigningKey: signing.privateKey,
      cardSigningCertificate: derOf(pemOf(issued, 'card-signing')),
      challenge: Buffer.from(challenge, 'base64'),
      device: { ...defaultDevice, deviceId, model },
      signing: keys.next(),
      authentication: keys.next(),
    };
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    ready.push({ holderId, body: { deviceId, signedEnrolment } });
  }
  let [enrolled, refused] = [0, 0];
  return {
    run: async () => {
      for (const { body } of ready) {
        const answer = await api.post<{ title: string }>('/phone-certificates', body);
        if (answer.status === 201) enrolled += 1;
        else if (answer.body.title === 'device-restricted') refused += 1;
        else throw new Error(`an enrolment was answered ${JSON.stringify(answer.body)}`);
      }
    },
    check: async () => {
      type Body = { certificates: { kind: string; status: { state: string } }[] };
      for (const { holderId } of ready) {
        const { body } = await api.get<Body>(`/holders/${holderId}`);
        const phones = body.certificates.filter(({ kind }) => kind.startsWith('phone'));
        if (phones.some(({ status }) => status.state !== 'held'))
          throw new Error(`${holderId} enrolled a phone of the model, and it is not held`);
      }
      return { enrolled, refused };
    },
  };
}
