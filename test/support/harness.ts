import { execFile, spawnSync } from 'node:child_process';
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { type Service, startService } from '../../ca/node/service.ts';
import { encodeNoticeWishes, type NoticeWishes } from '../../ca/notify/notice-wishes.ts';
import type { Device } from '../../ca/request/enrolment.ts';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import { digest } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { shiftedClock, systemClock } from '../../core/runtime/clock.ts';
import {
  askOcsp,
  base64,
  type ChipKey,
  cardRequest,
  defaultDevice,
  derOf,
  type EnrolmentParts,
  enrolmentContent,
  fetchCrl,
  makeChipKey,
  ocspRequest,
  pemOf,
  signEnrolment,
} from './actors.ts';
import { ownKey } from './own-key.ts';
import { RepeatingClient } from './repeating-client.ts';
import { freePort } from './service-process.ts';

/** A folder of its own, removed by `removeScratch`. */
const folders: string[] = [];
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-test-'));
  folders.push(folder);
  return folder;
}
export function removeScratch(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}

export { freePort } from './service-process.ts';

const main = new URL('../../ca/main.ts', import.meta.url).pathname;
/** Runs a command of ours to its end. It blocks: no service may run in this process meanwhile. */
export function warifu(...args: string[]): { code: number | string | null; output: string } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  // A process that crashed has no status: its signal says more than null.
  return { code: status ?? signal, output: stdout + stderr };
}

/** A clock that tests move, in all threads at once. */
export class ManualClock implements Clock {
  readonly shift = new SharedArrayBuffer(2 * 8);
  readonly #offsetMs = new Float64Array(this.shift);
  readonly #clock = shiftedClock(this.shift);
  #sleptMs = 0;

  wallMs(): number {
    return this.#clock.wallMs();
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  upMs(): number {
    return systemClock.monotonicMs() + this.#sleptMs;
  }

  /** Time goes by, as where the machine sleeps. */
  advance(ms: number): void {
    this.step(ms);
    this.#sleptMs += ms;
  }

  /** The wall clock alone is set. */
  step(ms: number): void {
    this.#offsetMs[0] = (this.#offsetMs[0] ?? 0) + ms;
  }
}

let dataFolders = 0;

/** Writes a configuration with free ports into a new data folder. */
export async function dataFolder(overrides: Record<string, object> = {}): Promise<string> {
  const folder = join(scratch(), 'data');
  mkdirSync(folder);
  const [api, ocsp, crl] = [await freePort(), await freePort(), await freePort()];
  dataFolders += 1;
  const token = (name: string) => ({ label: `${name}-${dataFolders}` });
  const isOnServer = process.env.WARIFU_TEST_RECORD === 'postgres' && overrides.record === undefined;
  const record = isOnServer ? { record: await recordOnServer(folder) } : {};
  const config: Record<string, object> = {
    ...{ ...record, ...overrides },
    // The data folders of one process share the folder of SoftHSM, which the process chooses once.
    pkcs11: { signingThreads: 1, caToken: token('ca'), ocspToken: token('ocsp'), ...overrides.pkcs11 },
    // Tests go to later years, and take their clients with them.
    limits: { clientBinding: '36500d', clientCertificate: '3650d', ...overrides.limits },
    // Keys of tests are no primes, which takes 2 ms a key to see, and one thread checks enough of them.
    issuing: { checkThreads: 1, primeModuli: 'not-tried', ...overrides.issuing },
    api: { port: api, ...overrides.api },
    // Keys of P-256 are made in no time, those of RSA in a tenth of a second.
    ocsp: {
      ...{ port: ocsp, publicUrl: `http://127.0.0.1:${ocsp}`, responderSuites: ['p256-sha256'] },
      ...overrides.ocsp,
    },
    // One worker: what begins with each service takes time, and tests begin many.
    crl: { port: crl, publicUrl: `http://127.0.0.1:${crl}`, workers: 1, ...overrides.crl },
  };
  writeFileSync(join(folder, 'warifu.json'), JSON.stringify(config));
  return folder;
}

/** What openssl reads in the answer of a service about a card's signing certificate, and about a phone's. */
export const statusAt = (addresses: StatusAddresses, { card }: Pick<Holder, 'card'>): Promise<string> =>
  statusOf(addresses, pemOf(card, 'card-signing'));

export const statusOfPhone = (addresses: StatusAddresses, phone: Issued): Promise<string> =>
  statusOf(addresses, pemOf(phone, 'phone-signing'));

type StatusAddresses = Pick<Service['addresses'], 'ocsp' | 'crl'>;

async function statusOf(addresses: StatusAddresses, certificate: string): Promise<string> {
  const ca = await fetchCrl(`${addresses.crl}/ca/signing-1.cer`);
  const request = await ocspRequest(derOf(certificate), ca);
  const response = await askOcsp(addresses.ocsp, request);
  const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
  return /Cert Status: (\w+)/.exec(text)?.[1] ?? text;
}

export const statusOfCard = ({ service }: TestService, holder: Holder): Promise<string> =>
  statusAt(service.addresses, holder);

/** Runs a command of ours beside a service in this process; what it prints, and what it says of errors, apart. */
export const warifuRun = (
  ...args: string[]
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> =>
  promisify(execFile)(process.execPath, [main, ...args]).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({
      code,
      stdout,
      stderr,
    }),
  );

/** The same, with both together. */
export const runWarifu = (...args: string[]): Promise<{ readonly code: number; readonly output: string }> =>
  warifuRun(...args).then(({ code, stdout, stderr }) => ({ code, output: stdout + stderr }));

/** The part of a configuration that keeps the record in a new database, whose password it puts into the data folder. */
export async function recordOnServer(folder: string): Promise<{ readonly postgres: object }> {
  // Few tests want it, and the driver takes its time to load.
  const { newDatabase } = await import('./postgres.ts');
  const { hosts, database, user, password } = await newDatabase();
  mkdirSync(join(folder, 'secrets'), { recursive: true });
  writeFileSync(join(folder, 'secrets', 'postgres.password'), `${password?.()}\n`, { mode: 0o600 });
  const addresses = hosts.map(({ host, port }) => `${host}:${port}`);
  return { postgres: { hosts: addresses, database, user, tls: 'off' } };
}

/** The day in Japan, `YYYY-MM-DD`: that of a person's birthday, and of a card's last day. */
export const dayInJapan = (ms: number): string => new Date(ms + 9 * 3_600_000).toISOString().slice(0, 10);

export interface TestService {
  readonly folder: string;
  readonly service: Service;
  readonly api: CaClient;
  readonly clock: ManualClock;
  /** What the service logged, as text. */
  log(): string;
  close(): Promise<void>;
}

/** The real service in this process: tokens, disk, TLS and HTTP and all. */
export async function startTestService(
  options: { folder?: string; overrides?: Record<string, object>; clock?: ManualClock } = {},
): Promise<TestService> {
  const folder = options.folder ?? (await dataFolder(options.overrides));
  const clock = options.clock ?? new ManualClock();
  const lines: string[] = [];
  const logger = pino({ base: null }, { write: (line) => void lines.push(line) });
  const service = await startService({ folder, clock, logger });
  const api = RepeatingClient.named(folder, service.addresses.api, 'first');
  return {
    folder,
    service,
    api,
    clock,
    log: () => lines.join(''),
    close: async () => {
      await api.close();
      await service.close();
    },
  };
}

/**
 * A second client with roles of its own, bound through the API; its files are those of a named client. It is enrolled by a request for its
 * key; by the command, which takes a second more, where the service's clock is ahead: TLS goes by the machine's, and would not accept the
 * certificate yet.
 */
export async function addClient(
  { folder, service, api, clock }: TestService,
  name: string,
  binding: { roles: string[]; desks?: string[]; authorities?: string[]; kind?: string },
): Promise<{ client: CaClient; fingerprint: string }> {
  const isAhead = clock.wallMs() > Date.now() + 30_000;
  const made = isAhead ? { fingerprint: await makeClient(name, folder) } : await ownKey();
  const named = 'request' in made ? { request: made.request } : made;
  const body = { ...named, name, desks: [], ...binding };
  const answer = await api.post<{ fingerprint: string; certificate: string }>('/clients', body);
  if (answer.status !== 201) throw new Error(`adding ${name}: ${JSON.stringify(answer.body)}`);
  const { fingerprint, certificate } = answer.body;
  if ('key' in made) {
    writeFileSync(join(folder, 'clients', `${name}.key`), made.key, { mode: 0o600 });
    writeFileSync(join(folder, 'clients', `${name}.pem`), certificate);
  }
  return { client: RepeatingClient.named(folder, service.addresses.api, name), fingerprint };
}

/** Makes a named client's key and certificate, while the service goes on in this process; gives the fingerprint. */
async function makeClient(name: string, folder: string): Promise<string> {
  const run = () => promisify(execFile)(process.execPath, [main, 'client', name, '--data', folder]);
  const made = await run().catch((error: { signal?: string | null; stderr?: string }) => {
    // SoftHSM crashes, once in some thousands, as it loads a token in which another process writes.
    if (error.signal == null) throw new Error(`warifu client ${name}: ${error.stderr}`, { cause: error });
    return run();
  });
  return /fingerprint ([0-9a-f]{64})/.exec(made.stdout)?.[1] ?? '';
}

/** Two administrators take the record's time back to the machine's. */
export async function takeTimeBack(test: TestService): Promise<void> {
  const { client } = await addClient(test, `second-${Date.now()}`, { roles: ['administrator'] });
  const proposed = await test.api.post<{ correctionId: string }>('/clock/corrections', { note: 'was ahead' });
  const path = `/clock/corrections/${proposed.body.correctionId}/approval`;
  const approved = await client.post(path, undefined);
  await client.close();
  if (approved.status !== 200) throw new Error(`taking the time back: ${JSON.stringify(approved.body)}`);
}

export interface Holder {
  readonly holderId: string;
  readonly cardId: string;
  readonly card: Issued;
  readonly cardSigning: ChipKey;
  readonly cardAuthentication: ChipKey;
}

let holders = 0;

/** Issues a pair to a new holder's card. */
export async function issueCard(api: CaClient, overrides: object = {}): Promise<Holder> {
  holders += 1;
  const [holderId, cardId] = [`holder-${holders}`, `card-${holders}`];
  const [cardSigning, cardAuthentication] = [await makeChipKey(), await makeChipKey()];
  const body = cardRequest(
    { signing: cardSigning, authentication: cardAuthentication },
    { holderId, cardId, ...overrides },
  );
  const answer = await api.post<Issued>('/card-certificates', body);
  if (answer.status !== 201) throw new Error(`issuing to a card: ${JSON.stringify(answer.body)}`);
  return { holderId, cardId, card: answer.body, cardSigning, cardAuthentication };
}

export async function getChallenge(api: CaClient): Promise<Uint8Array> {
  const { body } = await api.post<{ challenge: string }>('/phone-challenges', undefined);
  return Buffer.from(body.challenge, 'base64');
}

/** What a phone needs to enrol with a holder's card, with keys and a challenge of its own. */
export async function enrolmentParts(
  api: CaClient,
  holder: Omit<Holder, 'cardAuthentication'>,
  device: Partial<Device> = {},
) {
  return {
    cardSigningKey: holder.cardSigning.privateKey,
    cardSigningCertificate: derOf(pemOf(holder.card, 'card-signing')),
    challenge: await getChallenge(api),
    device: { ...defaultDevice, deviceId: `phone-of-${holder.holderId}`, ...device },
    signing: await makeChipKey(),
    authentication: await makeChipKey(),
  };
}

export async function issuePhone(
  api: CaClient,
  holder: Holder,
): Promise<{ phone: Issued; deviceId: string }> {
  const parts = await enrolmentParts(api, holder);
  const { deviceId } = parts.device;
  const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
  const answer = await api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
  if (answer.status !== 201) throw new Error(`issuing to a phone: ${JSON.stringify(answer.body)}`);
  return { phone: answer.body, deviceId };
}

/** A client of this name, which was made before. */
export const namedApi = ({ folder, service }: TestService, name: string): CaClient =>
  RepeatingClient.named(folder, service.addresses.api, name);

/** A holder's notice preferences, as the card's or phone's signing key signs it, base64. */
export async function signedWishes(
  api: CaClient,
  by: { readonly key: KeyObject; readonly certificate: Uint8Array },
  wishes: Partial<NoticeWishes> = {},
): Promise<string> {
  const content = encodeNoticeWishes({
    certificate: digest('sha256', by.certificate),
    challenge: await getChallenge(api),
    occasions: [],
    language: 'ja',
    mailAddress: null,
    ...wishes,
  });
  const signer = { cardSigningKey: by.key, cardSigningCertificate: by.certificate };
  const contentType = '1.3.6.1.4.1.32473.8.4';
  return base64(signEnrolment(content, signer as EnrolmentParts, { contentType }));
}

/** Has a holder's card sign notice preferences, and sends them. */
export async function setPreferences(
  api: CaClient,
  holder: Omit<Holder, 'cardAuthentication'>,
  wishes: Partial<NoticeWishes> = {},
): Promise<Answer<PreferencesAnswer>> {
  const certificate = derOf(pemOf(holder.card, 'card-signing'));
  const by = { key: holder.cardSigning.privateKey, certificate };
  const path = `/holders/${holder.holderId}/notices`;
  return api.post(path, { signedWishes: await signedWishes(api, by, wishes) });
}

export interface PreferencesAnswer {
  readonly occasions: readonly string[];
  readonly by: string;
  readonly language: string;
  readonly confirmBy: string | null;
  readonly detail?: string;
}

/** Runs openssl; gives everything it says, and fails when it does. */
export function openssl(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`openssl ${args.join(' ')}: ${stderr}`);
  return stdout + stderr;
}

/** Puts octets or text into a scratch file and returns its path. */
export function fileOf(content: Uint8Array | string, name = 'file'): string {
  const path = join(scratch(), name);
  writeFileSync(path, content);
  return path;
}

/** A token's memory, in memory. */
export function memoryTokenMemory(): TokenMemory {
  const values = new Map<string, number>();
  return {
    recall: async (name) => values.get(name) ?? 0,
    remember: async (name, value) => {
      values.set(name, Math.max(value, values.get(name) ?? 0));
    },
  };
}

export const fixture = (name: string): string => new URL(`../fixtures/${name}`, import.meta.url).pathname;

export const fixtureKey = (name: string): KeyObject => createPrivateKey(readFileSync(fixture(`${name}.key`)));
