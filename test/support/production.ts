import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Answer, CaClient } from '../../ca/client/client.ts';
import { enrolFirstAdministrators } from '../../ca/node/administrators.ts';
import { performCeremony } from '../../ca/node/ceremony.ts';
import { withNode } from '../../ca/node/operator.ts';
import { type Service, startService } from '../../ca/node/service.ts';
import { dataFolder, ManualClock } from './harness.ts';
import { type OwnKey, ownKey } from './own-key.ts';
import { RepeatingClient } from './repeating-client.ts';

// The service in production: a ceremony of its own, and persons whose keys the tests make.

export const apiName = 'ca.jpki.example';

/** A configuration that production starts with; ports and tokens come from `dataFolder`. */
export const fitConfig = {
  mode: 'production',
  scheme: {
    organization: 'JPKI',
    policies: { 'card-signing': '1.2.392.200149.8.5.1.1.20', 'phone-signing': '1.2.392.200149.8.5.1.1.40' },
  },
  api: { names: [apiName] },
  ocsp: { publicUrl: 'http://ocsp.jpki.example', verifiers: { required: true, tokensOver: 'tls' } },
  crl: { publicUrl: 'http://crl.jpki.example', verifiers: { required: true, tokensOver: 'proxy' } },
  evidence: {
    verdicts: [{ name: 'shop', url: 'https://verdict.jpki.example/', use: 'required', timeout: '1s' }],
  },
} as const;

/** A folder whose ceremony was one of production, with its first client. */
export async function productionFolder(overrides: Record<string, object> = {}): Promise<string> {
  const folder = await dataFolder({ ...(fitConfig as unknown as Record<string, object>), ...overrides });
  await performCeremony({ folder, clock: new ManualClock() });
  return folder;
}

export const administratorNames = ['Sato Hanako', 'Suzuki Taro'] as const;

/** Enrols the first two administrators; their keys. */
export async function enrolAdministrators(folder: string): Promise<readonly [OwnKey, OwnKey]> {
  const keys = [await ownKey(), await ownKey()] as const;
  const given = keys.map(({ request }, i) => {
    const file = join(folder, `request-${i}.der`);
    writeFileSync(file, Buffer.from(request, 'base64'));
    return `${administratorNames[i]}=${file}`;
  });
  await withNode(folder, 'administrators', 'nothing', async (node) => {
    await enrolFirstAdministrators(node, given);
  });
  return keys;
}

/** Two municipalities, as tests of access configure them. */
export const [shibuya, nakano] = ['13113', '13114'] as const;
export const municipalities = [
  { code: shibuya, prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
  { code: nakano, prefecture: 'Tokyo-to', municipality: 'Nakano-ku' },
];

/** Of a person of her own. */
export const basicFourOf = (holderId: string) => ({
  ...{ name: '番号　花子', birthDate: '1990-04-01', sex: 'female' },
  address: `東京都渋谷区${Buffer.from(holderId)
    .toString('hex')
    .replace(/./g, (digit) => String.fromCharCode(0x3042 + Number.parseInt(digit, 16)))}町`,
});

/** Who signs plans at the console. */
export interface Signatory {
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
}

/** The plan that a command has written, of what it says. */
export function planOf(said: string): string {
  const [, file] = /Its plan is in (\S+\.json);/.exec(said) ?? [];
  if (file === undefined) throw new Error(`no plan: ${said}`);
  return file;
}

/** Signs a plan as the documents say, with OpenSSL; the file with it. */
export function signPlan(
  plan: string,
  { key, certificate }: Signatory,
  contentType = '1.3.6.1.4.1.32473.8.6',
): string {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-sign-'));
  const [keyFile, certFile, signed] = ['key.pem', 'cert.pem', 'signed.cms'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  writeFileSync(keyFile, key, { mode: 0o600 });
  writeFileSync(certFile, certificate);
  const arguments_ = ['cms', '-sign', '-cades', '-binary', '-nodetach', '-nosmimecap', '-md', 'sha256'];
  execFileSync('openssl', [
    ...arguments_,
    ...['-econtent_type', contentType, '-in', plan, '-signer', certFile, '-inkey', keyFile],
    ...['-outform', 'DER', '-out', signed],
  ]);
  return signed;
}

export interface ProductionService {
  readonly folder: string;
  readonly service: Service;
  readonly clock: ManualClock;
  /** Two persons with the role administrator. */
  readonly administrators: readonly [RepeatingClient, RepeatingClient];
  /** The same two, as they sign at the console. */
  readonly signatories: readonly [Signatory, Signatory];
  /** A client of a key and a certificate, PEM. */
  through(key: string, cert: string): RepeatingClient;
  /** Enrols a client through the first administrator. */
  enrol(body: NewClient): Promise<Enrolled>;
  /** What one administrator asks for and the other approves. */
  approved<T>(path: string, body: unknown): Promise<Answer<T>>;
  log(): string;
  close(): Promise<void>;
}

interface NewClient {
  readonly name: string;
  readonly kind: 'person' | 'system';
  readonly roles: string[];
  readonly desks?: string[];
  readonly municipalities?: string[];
}

export interface Enrolled {
  readonly client: RepeatingClient;
  readonly fingerprint: string;
  readonly own: OwnKey;
  readonly certificate: string;
}

interface Proposed {
  readonly proposalId: string;
  readonly planHash: string;
}

/** The answer of what one asks for, once another has approved it where that is wanted. */
export async function approvedBy<T>(
  one: CaClient,
  another: CaClient,
  path: string,
  body: unknown,
): Promise<Answer<T>> {
  const key = crypto.randomUUID();
  const asked = await one.post<T>(path, body, key);
  if (asked.status !== 202) return asked;
  const { proposalId, planHash } = asked.body as Proposed;
  const answer = await another.post<{ state: string }>(`/proposals/${proposalId}/approval`, { planHash });
  if (answer.status !== 200) throw new Error(`approving ${path}: ${JSON.stringify(answer.body)}`);
  // Asked for again, under its key, it is answered as it was carried out.
  return one.post<T>(path, body, key);
}

/** The first two administrators, as they sign at the console. */
export function signatoriesOf(
  folder: string,
  keys: readonly [OwnKey, OwnKey],
): readonly [Signatory, Signatory] {
  const of = (i: 0 | 1): Signatory => ({
    key: keys[i].key,
    certificate: readFileSync(join(folder, 'clients', `administrator-${i + 1}.pem`), 'utf8'),
  });
  return [of(0), of(1)];
}

export async function startProduction(overrides: Record<string, object> = {}): Promise<ProductionService> {
  const folder = await productionFolder(overrides);
  const keys = await enrolAdministrators(folder);
  const [clock, lines] = [new ManualClock(), [] as string[]];
  const logger = pino({ base: null }, { write: (line) => void lines.push(line) });
  const service = await startService({ folder, clock, logger });
  const opened: RepeatingClient[] = [];
  const ca = readFileSync(join(folder, 'tls', 'operations-ca.pem'), 'utf8');
  const through = (key: string, cert: string): RepeatingClient => {
    const client = new RepeatingClient({
      address: service.addresses.api,
      key,
      cert,
      ca,
      serverName: apiName,
      purpose: 'operation',
    });
    opened.push(client);
    return client;
  };
  const signatories = signatoriesOf(folder, keys);
  const administrator = ({ key, certificate }: Signatory): RepeatingClient => through(key, certificate);
  const administrators = [administrator(signatories[0]), administrator(signatories[1])] as const;
  const approved: ProductionService['approved'] = (path, body) =>
    approvedBy(administrators[0], administrators[1], path, body);
  const enrol: ProductionService['enrol'] = async (body) => {
    const own = await ownKey();
    const isOfHolders = body.roles.some((role) => role === 'revoker' || role === 'reader');
    const reach = isOfHolders ? { municipalities: ['*'] } : {};
    const sent = { desks: [], ...reach, ...body, request: own.request };
    const answer = await approved<{ fingerprint: string; certificate: string }>('/clients', sent);
    if (answer.status !== 201) throw new Error(`enrolling ${body.name}: ${JSON.stringify(answer.body)}`);
    const { fingerprint, certificate } = answer.body;
    return { client: through(own.key, certificate), fingerprint, own, certificate };
  };
  const close = async (): Promise<void> => {
    await Promise.all(opened.map((client) => client.close()));
    await service.close();
  };
  return {
    folder,
    service,
    clock,
    administrators,
    signatories,
    through,
    enrol,
    approved,
    log: () => lines.join(''),
    close,
  };
}
