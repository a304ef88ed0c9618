import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startService } from '../../ca/node/service.ts';
import { warningKinds } from '../../core/node/warnings.ts';
import {
  addClient,
  dataFolder,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { apiName, fitConfig } from '../support/production.ts';

// docs/OPERATIONS.md: its tables are of the code, and its commands run.

const root = new URL('../..', import.meta.url).pathname;
const document = readFileSync(join(root, 'docs/OPERATIONS.md'), 'utf8');
const blockOf = (file: string, name: string): string =>
  new RegExp(`\`\`\`sh ${name}\n([\\s\\S]*?)\`\`\``).exec(readFileSync(join(root, file), 'utf8'))?.[1] ?? '';
const block = (name: string): string => blockOf('docs/OPERATIONS.md', name);

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs commands in a folder, without blocking the service of this process. */
const shell = (commands: string, cwd: string): Promise<Ended> =>
  new Promise((resolve) => {
    const child = spawn('sh', ['-e', '-c', commands], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      stderr += String(chunk);
    });
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });

/** First cells of the rows below a heading. */
const table = (heading: string): string[] =>
  (document.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '')
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1)
    .map((line) => (line.split('|')[1] ?? '').trim());

describe('the document of operations', () => {
  it('has every alarm of the code, and no other', () => {
    const sources = ['core', 'store', 'hsm', 'ca', 'ocsp', 'crl'].flatMap((folder) =>
      globSync(join(root, folder, '**/*.ts')),
    );
    const alarms = sources.flatMap((file) =>
      [...readFileSync(file, 'utf8').matchAll(/['`]ALARM: ([^'`]*)['`]/g)].map(([, text = '']) => text),
    );
    expect(alarms.length).toBeGreaterThan(9);
    // One alarm's text is that of the refusal it is about.
    const documented = table('Alarms').map((text) =>
      text.startsWith('this client has had') ? `\${error.message}` : text,
    );
    expect(documented.sort()).toEqual([...new Set(alarms)].sort());
  });

  it('has every kind of warning', () => {
    expect(table('Warnings')).toEqual(warningKinds.map((kind) => `\`${kind}\``));
  });
});

it('the first start of production is as the document says, and what one asks for and another approves', async () => {
  const municipalities = [{ code: '13113', prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' }];
  const config = { ...fitConfig, municipalities } as unknown as Record<string, object>;
  const folder = join(await dataFolder(config), '..');
  const first = spawnSync(
    'sh',
    ['-e', '-c', block('production').replaceAll('npm run --silent warifu --', 'warifu')],
    {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, PATH: `${join(root, 'ca')}:${process.env.PATH}` },
    },
  );
  expect(first.status, first.stdout + first.stderr).toBe(0);
  const logger = pino({ level: 'silent' });
  const service = await startService({ folder: join(folder, 'data'), clock: new ManualClock(), logger });
  const { port } = new URL(service.addresses.api);
  const asked = blockOf('docs/API.md', 'two-persons')
    .replaceAll('https://ca.example.jp:8443', `https://${apiName}:${port}`)
    .replaceAll('curl ', `curl --resolve ${apiName}:${port}:127.0.0.1 `);
  const { status, stdout, stderr } = await shell(asked, folder);
  expect({ status, stdout: stdout.trim() }, stderr).toEqual({ status: 0, stdout: 'done' });
  const desk = JSON.parse(readFileSync(join(folder, 'desk.json'), 'utf8')) as object;
  expect(desk).toMatchObject({ deskCode: 'DESK00001', municipalityCode: '13113' });
  await service.close();
});

describe('the commands of the document', () => {
  let test: TestService;
  let work: string;
  beforeAll(async () => {
    test = await startTestService();
    work = scratch();
    copyFileSync(join(test.folder, 'tls', 'operations-ca.pem'), join(work, 'operations-ca.pem'));
  });
  afterAll(async () => {
    await test.close();
    removeScratch();
  });

  /** Runs commands in a folder with the client's files, against the service. */
  const run = (commands: string, folder = work): Promise<Ended> =>
    shell(commands.replaceAll('https://ca.example.jp:8443', test.service.addresses.api), folder);

  const bring = (client: string, as: string): void => {
    for (const end of ['key', 'pem'])
      copyFileSync(join(test.folder, 'clients', `${client}.${end}`), join(work, `${as}.${end}`));
  };

  it('renew a client’s certificate on day 85, and get the same answer again', async () => {
    await (await addClient(test, 'desk', { roles: ['reader'] })).client.close();
    bring('desk', 'desk');
    const { status, stderr } = await run(block('day-85'));
    expect(status, stderr).toBe(0);
    const first = readFileSync(join(work, 'next.pem'), 'utf8');
    execFileSync('openssl', ['verify', '-CAfile', 'operations-ca.pem', 'next.pem'], { cwd: work });
    const again = await run(block('day-85'));
    expect(again.status, again.stderr).toBe(0);
    expect(readFileSync(join(work, 'next.pem'), 'utf8')).toBe(first);
  });

  it('bind an administrator on day 91, whom another confirms', async () => {
    const { client, fingerprint: other } = await addClient(test, 'other', { roles: ['reader'] });
    const clients = (await test.api.get<{ clients: { name: string; fingerprint: string }[] }>('/clients'))
      .body;
    const first = clients.clients.find(({ name }) => name === 'first client')?.fingerprint;
    expect((await test.api.post(`/clients/${first}/revocation`, undefined)).status).toBe(200);
    const [make = '', bind = ''] = block('day-91').trim().split('\n');
    const here = (line: string) =>
      line.replaceAll('data/', `${test.folder}/`).replace('--data data', `--data ${test.folder}`);
    const made = await run(here(make), root);
    expect(made.status, made.stderr).toBe(0);
    const fingerprint = /fingerprint ([0-9a-f]{64})/.exec(made.stdout)?.[1] ?? '';
    const bound = await run(here(bind).replace('FINGERPRINT', fingerprint), root);
    expect(bound.status, bound.stderr).toBe(0);
    bring('rescue', 'rescue');
    const extended = await run(
      `curl -sS --fail-with-body --cert rescue.pem --key rescue.key --cacert operations-ca.pem -H 'Content-Type: application/json' -H 'Idempotency-Key: extend' -d '{"roles":["administrator"]}' https://ca.example.jp:8443/v1/clients/${other}/binding`,
    );
    expect(extended.status, extended.stdout).toBe(0);
    bring('other', 'other');
    const confirmed = await run(block('confirm').replace('FINGERPRINT', fingerprint));
    expect(confirmed.status, confirmed.stdout + confirmed.stderr).toBe(0);
    expect(JSON.parse(confirmed.stdout)).toMatchObject({ name: 'rescue', unconfirmedSince: null });
    await client.close();
  });

  it('add a generation while the service runs, which a relying party trusts by its link', async () => {
    const here = (line: string) => line.replace('--data data', `--data ${test.folder}`);
    const made = await run(here(block('rollover')), root);
    expect(made.status, made.stderr).toBe(0);
    expect(made.stdout).toContain('signing-2-by-1\n');
    const { crl } = test.service.addresses;
    const ca = (n: number) => `curl -sf ${crl}/ca/signing-${n}.cer | openssl x509 -inform DER`;
    await expect.poll(async () => (await run(`${ca(2)} -noout`)).status).toBe(0);
    const recipe = /```sh link\n([\s\S]*?)```/.exec(
      readFileSync(join(root, 'docs/RELYING-PARTIES.md'), 'utf8'),
    )?.[1];
    const prepared = `${ca(1)} -out trusted.pem\nADDRESS=${crl}\n`;
    await expect.poll(async () => (await run(`curl -sf -o x ${crl}/ca/signing-2-by-1.cer`)).status).toBe(0);
    const { status, stdout, stderr } = await run(`${prepared}${recipe}`);
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toContain('link.pem: OK');
    expect(readFileSync(join(work, 'trusted.pem'), 'utf8').match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  });

  it('take back the time of a clock that was ahead', async () => {
    await test.close();
    test.clock.advance(1000 * 3_600_000);
    test = await startTestService({ folder: test.folder, clock: test.clock });
    await test.service.ca.checkHealth();
    await test.close();
    test.clock.step(-1000 * 3_600_000);
    test = await startTestService({ folder: test.folder, clock: test.clock });
    bring('rescue', 'one');
    bring('other', 'other');
    const { status, stdout, stderr } = await run(block('take-back'));
    expect(status, stdout + stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ state: 'approved', note: 'NTP server was wrong' });
    expect(test.service.ca.clock.whyUnreliable?.()).toBeUndefined();
  });
});
