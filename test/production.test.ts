import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../ca/config/config.ts';
import { isLoopback, productionFaults } from '../ca/config/production.ts';
import { performCeremony } from '../ca/node/ceremony.ts';
import { withNode } from '../ca/node/operator.ts';
import { startService } from '../ca/node/service.ts';
import {
  dataFolder,
  ManualClock,
  openssl,
  removeScratch,
  startTestService,
  warifu,
} from './support/harness.ts';
import { expectRefusal } from './support/holder-rules.ts';
import { ownKey } from './support/own-key.ts';
import {
  administratorNames,
  apiName,
  type Enrolled,
  fitConfig,
  type ProductionService,
  planOf,
  productionFolder,
  signPlan,
  startProduction,
} from './support/production.ts';

// The mode: development, which anyone tries out, and production, which does not start with what is not safe.

afterAll(removeScratch);

const main = new URL('../ca/main.ts', import.meta.url).pathname;

const start = (folder: string) =>
  startService({ folder, clock: new ManualClock(), logger: pino({ level: 'silent' }) });

const configOf = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, 'warifu.json'), 'utf8')) as Record<string, unknown>;

const edit = (folder: string, change: object): void =>
  writeFileSync(join(folder, 'warifu.json'), JSON.stringify({ ...configOf(folder), ...change }));

describe('a configuration of production', () => {
  const faultsOf = (config: object): readonly string[] => productionFaults(parseConfig(config));

  it('has no fault where it is fit', () => {
    expect(faultsOf(fitConfig)).toEqual([]);
  });

  const unfit: [what: string, change: object, line: RegExp][] = [
    ['evidence that is off', { evidence: {} }, /^\/evidence: nothing is required/],
    [
      'evidence that may be left out',
      { evidence: { verdicts: [{ ...fitConfig.evidence.verdicts[0], use: 'optional' }] } },
      /^\/evidence: nothing is required/,
    ],
    [
      'attestations of any app',
      { evidence: { keyAttestation: { use: 'required', roots: ['root.pem'] } } },
      /^\/evidence\/keyAttestation\/apps is empty/,
    ],
    [
      'OCSP for anyone',
      { ocsp: { publicUrl: 'http://ocsp.jpki.example' } },
      /^\/ocsp\/verifiers\/required is false/,
    ],
    [
      'CRLs for anyone',
      { crl: { publicUrl: 'http://crl.jpki.example' } },
      /^\/crl\/verifiers\/required is false/,
    ],
    [
      'the names of a test',
      { scheme: { ...fitConfig.scheme, organization: 'JPKI-TEST' } },
      /^\/scheme\/organization is JPKI-TEST/,
    ],
    [
      'the policies of a test',
      { scheme: { organization: 'JPKI' } },
      /^\/scheme\/policies\/card-signing is 1\.2\.392\.200149\.8\.5\.1\.0\.20/,
    ],
    [
      'a loopback address for OCSP',
      { ocsp: { verifiers: { required: true } } },
      /^\/ocsp\/publicUrl is http:\/\/127\.0\.0\.1:8080/,
    ],
    [
      'a loopback address for CRLs',
      { crl: { publicUrl: 'http://localhost:8081', verifiers: { required: true } } },
      /^\/crl\/publicUrl is http:\/\/localhost/,
    ],
    [
      'a loopback address for its practice statement',
      { scheme: { ...fitConfig.scheme, cpsUri: 'http://[::1]/cps' } },
      /^\/scheme\/cpsUri is /,
    ],
    [
      'a loopback name of the API',
      { api: { names: [apiName, 'localhost'] } },
      /^\/api\/names\/1 is localhost/,
    ],
    ['no name of the API', { api: {} }, /^\/api\/names is empty/],
    [
      'mail without TLS',
      { notices: { mail: { host: 'localhost', port: 25, from: 'a@b', tls: 'never' } } },
      /^\/notices\/mail\/tls is never/,
    ],
    [
      'a PIN in the environment',
      { pkcs11: { caToken: { pinEnvironment: 'PIN' } } },
      /^\/pkcs11\/caToken\/pinEnvironment/,
    ],
    [
      'the PIN of a copy in the environment',
      { pkcs11: { ocspToken: { copies: [{ label: 'b', pinFile: 'b.pin', pinEnvironment: 'PIN' }] } } },
      /^\/pkcs11\/ocspToken\/copies\/0\/pinEnvironment/,
    ],
  ];

  it.each(unfit)('is refused with %s, in one line', (_what, change, line) => {
    const faults = faultsOf({ ...fitConfig, ...change });
    expect(faults.filter((fault) => line.test(fault))).toHaveLength(1);
    for (const fault of faults) expect(fault).not.toContain('\n');
    expect(faultsOf({ ...fitConfig, ...change, mode: 'development' })).toEqual(faults);
  });

  it('knows this machine by all its names and addresses', () => {
    for (const host of [
      'localhost',
      'LOCALHOST.',
      'a.localhost',
      '127.0.0.1',
      '127.9.9.9',
      '[::1]',
      '::1',
      '0.0.0.0',
      '[::]',
      '[::ffff:7f00:1]',
    ])
      expect([host, isLoopback(host)]).toEqual([host, true]);
    for (const host of [
      'ca.jpki.example',
      '127.0.0.1.example',
      '192.0.2.1',
      '[2001:db8::1]',
      'localhost.example',
    ])
      expect([host, isLoopback(host)]).toEqual([host, false]);
  });
});

describe('production', () => {
  it('is not started before its ceremony, and all that is wrong is said at once, a line each', async () => {
    const folder = await dataFolder();
    edit(folder, { mode: 'production' });
    const { code, output } = warifu('start', '--data', folder);
    expect(code).toBe(1);
    const [first, ...lines] = output.trim().split('\n');
    expect(first).toBe('warifu: bad-request: production does not start:');
    expect(lines.length).toBeGreaterThanOrEqual(9);
    expect(output).toMatch(/there has been no ceremony: perform it \(warifu ceremony\)/);
    expect(output).not.toMatch(/\n\s+at /);
    expect(existsSync(join(folder, 'record.db'))).toBe(false);
  });

  it('has no ceremony with a configuration that is not fit', async () => {
    const folder = await dataFolder({ ...(fitConfig as object), scheme: {} });
    await expect(performCeremony({ folder, clock: new ManualClock() })).rejects.toThrow(
      /\/scheme\/organization is JPKI-TEST/,
    );
    expect(existsSync(join(folder, 'softhsm'))).toBe(false);
  });

  it('has a ceremony next to the files that its configuration names, and none without them', async () => {
    const evidence = {
      ...fitConfig.evidence,
      keyAttestation: {
        use: 'required',
        roots: ['attestation/root.pem'],
        apps: [{ package: 'jp.example.wallet', signatureDigests: ['0'.repeat(64)] }],
      },
    };
    const folder = await dataFolder({ ...fitConfig, evidence } as unknown as Record<string, object>);
    await expect(performCeremony({ folder, clock: new ManualClock() })).rejects.toThrow(
      /\/evidence\/keyAttestation\/roots: there is no file .*root\.pem/,
    );
    mkdirSync(join(folder, 'attestation'));
    writeFileSync(join(folder, 'attestation', 'root.pem'), 'not read by a ceremony');
    writeFileSync(join(folder, 'other'), '');
    await expect(performCeremony({ folder, clock: new ManualClock() })).rejects.toThrow(/holds other:/);
    rmSync(join(folder, 'other'));
    await performCeremony({ folder, clock: new ManualClock() });
    expect(existsSync(join(folder, 'record.db'))).toBe(true);
  });

  it('keeps what a command without a ceremony would have left out of its folder', async () => {
    const folder = await dataFolder(fitConfig as unknown as Record<string, object>);
    const { code, output } = warifu('audit', 'verify', '--data', folder);
    expect({ code, output }).toMatchObject({ code: 1, output: expect.stringMatching(/has had no ceremony/) });
    expect(readdirSync(folder)).toEqual(['warifu.json']);
  });

  it('is not made of a folder of development, whose keys had one owner', async () => {
    const { folder, close } = await startTestService();
    await close();
    const before = configOf(folder) as { ocsp: object; crl: object; api: object };
    edit(folder, {
      ...fitConfig,
      ocsp: { ...before.ocsp, ...fitConfig.ocsp },
      crl: { ...before.crl, ...fitConfig.crl },
      api: { ...before.api, ...fitConfig.api },
    });
    await expect(start(folder)).rejects.toThrow(/made in development, and never becomes production/);
    // With another fault both are said.
    edit(folder, { evidence: {} });
    await expect(start(folder)).rejects.toThrow(/\/evidence: nothing[\s\S]*made in development/);
    await expect(withNode(folder, 'audit verify', 'everything', async () => undefined)).rejects.toThrow(
      /made in development/,
    );
  });

  it('has two administrators before it starts, enrolled by requests for keys of their own; then the first client ends', async () => {
    const folder = await productionFolder();
    await expect(start(folder)).rejects.toThrow(
      /first client can still act: [^\n]*\n {2}0 persons may approve, and 2 are wanted/,
    );
    const request = join(folder, 'one.der');
    writeFileSync(request, Buffer.from((await ownKey()).request, 'base64'));
    const enrol = (...given: string[]) => warifu('administrators', ...given, '--data', folder);
    expect(enrol(`Sato=${request}`).output).toMatch(/2 persons are wanted, of different names/);
    expect(enrol(`Sato=${request}`, `SATO=${request}`).output).toMatch(/of different names/);
    expect(enrol(`Sato=${request}`, `Su\u202ezuki=${request}`).output).toMatch(/characters that can be seen/);
    expect(enrol(`Sato=${request}`, `Suzuki=${request}`).output).toMatch(/certified that public key before/);
    expect(enrol(`Sato=${request}`, 'Suzuki=/nowhere').output).toMatch(/there is no file/);
    // What was refused has enrolled no one: it is done again, with another second person.
    const other = join(folder, 'other.pem');
    writeFileSync(join(folder, 'other.der'), Buffer.from((await ownKey()).request, 'base64'));
    openssl('req', '-inform', 'DER', '-in', join(folder, 'other.der'), '-out', other);
    expect(enrol(`Sato=${request}`, `Suzuki=${other}`)).toMatchObject({
      code: 0,
      output: expect.stringMatching(/administrator-1\.pem\n.*administrator-2\.pem/),
    });
    expect(existsSync(join(folder, 'clients', 'first.key'))).toBe(false);
    expect(enrol(`Sato=${request}`, `Suzuki=${other}`).output).toMatch(/has enrolled its administrators/);
    const certificate = new X509Certificate(readFileSync(join(folder, 'clients', 'administrator-2.pem')));
    expect(certificate.subject).toContain('CN=Suzuki');
    // A secret that others can read keeps it from starting, and as development it never starts.
    const pin = join(folder, 'secrets', 'warifu-ca.pin');
    chmodSync(pin, 0o644);
    await expect(start(folder)).rejects.toThrow(/warifu-ca\.pin can be read or written by others/);
    chmodSync(pin, 0o600);
    edit(folder, { mode: 'development' });
    await expect(start(folder)).rejects.toThrow(/made in production, and never becomes development/);
    edit(folder, { mode: 'production' });
    await (await start(folder)).close();
  });
});

describe('the service in production', () => {
  let test: ProductionService;
  beforeAll(async () => {
    test = await startProduction();
  });
  afterAll(() => test.close());

  it('says what it is, at start and in /health, and its certificate names no loopback', async () => {
    expect(test.log()).toContain('this is production');
    const [first] = test.administrators;
    expect(await first.get('/health')).toMatchObject({ status: 200, body: { mode: 'production' } });
    const { subjectAltName } = new X509Certificate(readFileSync(join(test.folder, 'tls', 'api.pem')));
    expect(subjectAltName).toBe(`DNS:${apiName}`);
  });

  it('lists its administrators as persons, and its first client as ended', async () => {
    const { body } = (await test.administrators[1].get('/clients')) as {
      body: { clients: { name: string; kind: string; roles: string[]; revokedAt: string | null }[] };
    };
    const persons = body.clients.filter(({ revokedAt }) => revokedAt === null);
    expect(persons.map(({ name, kind }) => [name, kind]).sort()).toEqual(
      administratorNames.map((name) => [name, 'person']).sort(),
    );
    const [founder] = body.clients.filter(({ revokedAt }) => revokedAt !== null);
    expect(founder).toMatchObject({ name: 'first client', roles: ['founder'] });
  });

  it('wants to know of each client whether it is a person, and gives no one the first client’s role', async () => {
    const [_first] = test.administrators;
    const body = { name: 'counter', roles: ['issuer'], desks: ['*'], request: (await ownKey()).request };
    expectRefusal(
      (await test.approved('/clients', body)) as never,
      400,
      'bad-request',
      /kind: production wants it/,
    );
    const founder = { ...body, kind: 'system', roles: ['founder'] };
    expectRefusal(await test.approved('/clients', founder), 400, 'bad-request');
    expect((await test.approved('/clients', { ...body, kind: 'system' })).status).toBe(201);
  });

  it('makes no key for a client, but certifies that of its owner', async () => {
    const made = warifuIn(test.folder, 'client', 'node');
    expect(made).toMatch(/in production a key is its owner’s/);
  });

  it('takes up no configuration that it would not start with, nor that of another mode', async () => {
    const config = configOf(test.folder);
    for (const [change, reason] of [
      [{ evidence: {} }, /\/evidence: nothing is required/],
      [{ mode: 'development' }, /this folder is one of production, and stays one/],
    ] as const) {
      edit(test.folder, change);
      await test.service.reload();
      expect(test.log()).toMatch(/the configuration cannot be read again/);
      expect(test.log()).toMatch(reason);
      edit(test.folder, config);
    }
  });
});

describe('production with fewer than two who may approve', () => {
  it('says so; one who was bound at the console approves once another has confirmed it', async () => {
    const running = await startProduction();
    const { through } = running;
    const [one] = running.administrators;
    const { body } = await one.get<{ clients: { name: string; fingerprint: string }[] }>('/clients');
    const other = body.clients.find(({ name }) => name === administratorNames[1])?.fingerprint;
    expect((await one.post(`/clients/${other}/revocation`, undefined)).status).toBe(200);
    const warnings = async () => {
      await running.service.reload();
      return (await one.get<{ warnings: object[] }>('/health')).body.warnings;
    };
    expect(await warnings()).toContainEqual(
      expect.objectContaining({ kind: 'too-few-approvers', about: expect.stringContaining('Sato Hanako') }),
    );
    // Who was bound at the console is not confirmed under another certificate of its own, and approves with neither.
    const third = await bound(running, 'third');
    const own = await ownKey();
    const more = { request: own.request, additional: true };
    const { body: given } = await third.client.post<{ certificate: string }>('/client-certificates', more);
    const twin = through(own.key, given.certificate);
    const confirm = (by: typeof one, { fingerprint }: Pick<Enrolled, 'fingerprint'>) =>
      by.post(`/clients/${fingerprint}/confirmation`, undefined);
    expectRefusal(await confirm(twin, third), 403, 'forbidden', /bound at the console/);
    const asked = await one.post<{ proposalId: string; planHash: string }>('/desks', {
      ...{ deskCode: 'FACTORY01', kind: 'factory' },
    });
    const { proposalId, planHash } = asked.body;
    const approve = (by: typeof one) => by.post(`/proposals/${proposalId}/approval`, { planHash });
    expectRefusal(await approve(twin), 403, 'forbidden', /bound at the console/);
    // The one who is left is not ended by them either.
    const mine = body.clients.find(({ name }) => name === administratorNames[0])?.fingerprint;
    expectRefusal(await twin.post(`/clients/${mine}/revocation`, undefined), 409, 'in-use');
    expect(await warnings()).toContainEqual(expect.objectContaining({ kind: 'too-few-approvers' }));
    expect((await confirm(one, third)).status).toBe(200);
    expect((await approve(twin)).status).toBe(200);
    expect(await warnings()).not.toContainEqual(expect.objectContaining({ kind: 'too-few-approvers' }));
    await running.close();
  });

  /** An administrator that is bound at the console, while the service runs. */
  async function bound({ folder, through, signatories }: ProductionService, name: string) {
    const own = await ownKey();
    const request = join(folder, `${name}.csr`);
    writeFileSync(request, Buffer.from(own.request, 'base64'));
    const made = await run('', 'client', name, '--request', request, '--data', folder);
    const fingerprint = /fingerprint ([0-9a-f]{64})/.exec(made)?.[1] ?? '';
    const pin = readFileSync(join(folder, 'secrets', 'warifu-ca.pin'), 'utf8');
    const binding = ['bind', fingerprint, '--name', name, '--roles', 'administrator', '--data', folder];
    const plan = planOf(await fails(pin, ...binding));
    // One of the two was shut out: the other is all that is left.
    await run(pin, ...binding, '--approved-by', signPlan(plan, signatories[0]));
    const certificate = readFileSync(join(folder, 'clients', `${name}.pem`), 'utf8');
    return { client: through(own.key, certificate), fingerprint };
  }

  async function run(input: string, ...args: string[]): Promise<string> {
    const { code, output, errors } = await ran(input, args);
    expect(code, errors).toBe(0);
    return output;
  }

  async function fails(input: string, ...args: string[]): Promise<string> {
    const { code, errors } = await ran(input, args);
    expect(code).toBe(1);
    return errors;
  }

  async function ran(input: string, args: readonly string[]) {
    const child = spawn(process.execPath, [main, ...args]);
    child.stdin.end(input);
    const [[code], output, errors] = await Promise.all([
      once(child, 'exit'),
      text(child.stdout),
      text(child.stderr),
    ]);
    return { code: code as number, output, errors };
  }
});

describe('an edited configuration of production', () => {
  it('is started with once two persons have allowed it; what changes no meaning is free', async () => {
    const running = await startProduction();
    const { folder } = running;
    const [one, two] = running.administrators;
    const before = configOf(folder);
    const free = { warnings: { client: '20d' }, issuing: { checkThreads: 1, primeModuli: 'not-tried' } };
    edit(folder, { ...free, approvals: { acts: { 'client-rights': 'off' } } });
    interface Shown {
      edited: string;
      running: string;
      changes: { key: string; from: unknown; to: unknown }[];
    }
    const { body: shown } = await one.get<Shown>('/configuration');
    expect(shown.changes).toEqual([{ key: 'approvals.acts.client-rights', from: null, to: 'off' }]);
    // Not without a restart, nor with one.
    await running.service.reload();
    expect(running.log()).toMatch(/cannot be read again.*|no two persons have allowed it/);
    expect((await one.post('/clients', await enrolmentOf('unwatched'))).status).toBe(202);
    const asked = await one.post<{ proposalId: string; planHash: string; plan: { changes: object[] } }>(
      '/configuration',
      { edited: shown.edited },
    );
    expect(asked).toMatchObject({
      status: 202,
      body: { act: 'configuration', plan: { changes: shown.changes } },
    });
    // Edited once more before it is approved: another meaning than was seen.
    edit(folder, { approvals: { acts: { 'client-rights': 'off', release: 'off' } } });
    const approval = `/proposals/${asked.body.proposalId}/approval`;
    const answer = await two.post(approval, { planHash: asked.body.planHash });
    expect(answer).toMatchObject({ body: { state: 'failed', refusal: { code: 'plan-changed' } } });
    edit(folder, { approvals: { life: '3d' } });
    const { body: again } = await one.get<Shown>('/configuration');
    expect((await running.approved('/configuration', { edited: again.edited })).status).toBe(200);
    await running.close();
    await (await start(folder)).close();
    edit(folder, { approvals: { life: '4d' } });
    await expect(start(folder)).rejects.toThrow(/no two persons have allowed it: start with the one before/);
    writeFileSync(join(folder, 'warifu.json'), JSON.stringify(before));
    await expect(start(folder)).rejects.toThrow(/no two persons have allowed it/);
    edit(folder, { approvals: { life: '3d' }, warnings: { client: '19d' } });
    await (await start(folder)).close();
  });
});

const enrolmentOf = async (name: string) => ({
  ...{ name, kind: 'person', roles: ['reader'], desks: [], municipalities: ['*'] },
  request: (await ownKey()).request,
});

/** What a command says that is refused; it opens the folder while the service of this process goes on. */
const warifuIn = (folder: string, ...args: string[]): string => warifu(...args, '--data', folder).output;

describe('development', () => {
  it('is the default, says so at start and in /health, and takes up an edited configuration with a line', async () => {
    const folder = await dataFolder({});
    edit(folder, { mode: 'evaluation' });
    const first = await startTestService({ folder });
    expect(first.log()).toContain('this is development');
    expect(await first.api.get('/health')).toMatchObject({ body: { mode: 'development' } });
    await first.close();
    expect(first.log()).not.toContain('the configuration was edited');
    edit(folder, { renewal: { windowMonths: 4 }, mode: 'development' });
    const second = await startTestService({ folder });
    await second.close();
    expect(second.log()).toContain('"changed":["renewal.windowMonths"]');
    const third = await startTestService({ folder });
    await third.close();
    expect(third.log()).not.toContain('the configuration was edited');
  });

  it('has a first client with every right, who enrols no first administrators', async () => {
    const { folder, close } = await startTestService();
    await close();
    expect(warifuIn(folder, 'administrators', 'a=b', 'c=d')).toMatch(/this is development/);
  });
});
