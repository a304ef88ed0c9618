import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import type { Issued } from '../ca/client/client.ts';
import { performCeremony } from '../ca/node/ceremony.ts';
import { layout } from '../ca/node/layout.ts';
import type { RecordFeed } from '../store/feed/event-feed.ts';
import {
  askOcsp,
  cardRequest,
  crlAddress,
  derOf,
  fetchCrl,
  listed,
  makeChipKey,
  ocspRequest,
  pemOf,
  until,
} from './support/actors.ts';
import {
  dataFolder,
  fileOf,
  issueCard,
  ManualClock,
  openssl,
  removeScratch,
  startTestService,
} from './support/harness.ts';

afterAll(removeScratch);

const main = new URL('../ca/main.ts', import.meta.url).pathname;

/** As services have them by default; tests have fewer. */
const bySuites = ['issuer', 'p256-sha256'];

/** The service as a process, as `npm start` runs it. */
async function spawnService(folder: string) {
  const child = spawn(process.execPath, [main, 'start', '--data', folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, log] = ['', ''];
  child.stderr.on('data', (chunk) => {
    log += String(chunk);
  });
  const exited = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      output += String(chunk);
      if (output.includes('openssl crl')) resolve();
    });
    void exited.then((code) => reject(new Error(`the service ended with ${code}: ${log}`)));
  });
  return { child, exited, output, log: () => log };
}

/** Posts as the ceremony's client; `taken` is called when the service has the headers and waits for the body. */
function statusOfPost(
  folder: string,
  url: string,
  body: string,
  taken: () => void,
): Promise<number | undefined> {
  const file = (...path: string[]): Buffer => readFileSync(join(folder, ...path));
  return new Promise((resolve, reject) => {
    const post = request(url, {
      method: 'POST',
      agent: false,
      key: file('clients', 'first.key'),
      cert: file('clients', 'first.pem'),
      ca: file('tls', 'operations-ca.pem'),
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'idempotency-key': 'under-way',
        expect: '100-continue',
      },
    });
    post.once('error', reject).once('response', (response) => {
      response.resume().once('end', () => resolve(response.statusCode));
    });
    post.once('continue', () => {
      taken();
      post.end(body);
    });
    post.flushHeaders();
  });
}

function shell(command: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn('sh', ['-c', command], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      output += String(chunk);
    });
    child.once('exit', (code) => resolve({ code, output }));
  });
}

describe('npm start', () => {
  it('prints lines that work, keeps everything over a restart, and drains on SIGTERM', async () => {
    const folder = await dataFolder();
    const first = await spawnService(folder);
    const lines = first.output.split('\n').filter((line) => line.startsWith('  curl'));
    expect(lines).toHaveLength(3);
    const [issue = '', ocsp = '', crl = ''] = lines;
    const issued = await shell(issue);
    expect(JSON.parse(issued.output).certificates).toHaveLength(2);
    expect((await shell(ocsp)).output).toContain('Cert Status: good');
    expect((await shell(crl)).output).toContain('X509v3 CRL Number');

    const caApi = /CA API {2}(https:\S+)\/v1/.exec(first.output)?.[1] ?? '';
    const body = cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() });
    const status = await statusOfPost(folder, `${caApi}/v1/card-certificates`, JSON.stringify(body), () =>
      first.child.kill('SIGTERM'),
    );
    expect(status, 'a request under way when SIGTERM comes is answered').toBe(201);
    expect(await first.exited).toBe(0);

    const second = await spawnService(folder);
    expect(JSON.parse((await shell(issue)).output)).toEqual(JSON.parse(issued.output));
    second.child.kill('SIGTERM');
    expect(await second.exited).toBe(0);
    expect(first.log() + second.log()).not.toMatch(/[0-9a-f]{32}\.pin|花子/);
  });

  it('says in one line what is wrong with a configuration, and does nothing', async () => {
    const folder = await dataFolder();
    writeFileSync(join(folder, 'warifu.json'), '{"ocsp":{"prot":1}}');
    const { code, output } = await shell(`${process.execPath} ${main} start --data ${folder}`);
    expect(code).toBe(1);
    expect(output).toMatch(/warifu: bad-request: configuration: \/ocsp/);
    expect(existsSync(join(folder, 'record.db'))).toBe(false);
  });
});

describe('the ceremony', () => {
  it('leaves a written record, keys that cannot leave their tokens, and secrets only their owner reads', async () => {
    const folder = await dataFolder({ ocsp: { responderSuites: bySuites } });
    await performCeremony({ folder, clock: new ManualClock() });
    const record = JSON.parse(readFileSync(join(folder, 'ceremony.json'), 'utf8'));
    const keys = record.tokens.flatMap(({ keys: some }: { keys: object[] }) => some);
    expect(keys).toHaveLength(9);
    for (const key of keys) expect(key).toMatchObject({ extractable: false });
    const names = record.certificates.map(({ name }: { name: string }) => name).sort();
    expect(names).toEqual([
      'authentication-1',
      'first-client',
      'ocsp-authentication-1-p256-sha256',
      'ocsp-authentication-1-rsa2048-sha256',
      'ocsp-signing-1-p256-sha256',
      'ocsp-signing-1-rsa2048-sha256',
      'operations-ca',
      'signing-1',
      'tls-server',
    ]);
    const fingerprint = openssl(
      'x509',
      '-in',
      join(folder, 'clients', 'first.pem'),
      '-noout',
      '-fingerprint',
      '-sha256',
    );
    const recorded = record.certificates.find(({ name }: { name: string }) => name === 'first-client').sha256;
    expect(fingerprint.split('=')[1]?.trim().replaceAll(':', '').toLowerCase()).toBe(recorded);
    for (const secret of [
      'secrets/warifu-ca.pin',
      'secrets/warifu-ocsp.pin',
      'tls/api.key',
      'clients/first.key',
      'record.db',
    ]) {
      expect(statSync(join(folder, secret)).mode & 0o077).toBe(0);
    }
    await expect(performCeremony({ folder, clock: new ManualClock() })).rejects.toMatchObject({
      code: 'bad-request',
    });
  });
});

describe('after a stop', () => {
  it('what was reserved and not completed is rolled forward before anything is served', async () => {
    const test = await startTestService();
    const { folder, service } = test;
    // The token is gone at the worst moment: after reserve, before any signature.
    const broken = { code: 'token-unavailable' };
    for (const { signer } of service.ca.authorities.all) {
      signer.sign = () => Promise.reject(Object.assign(new Error('gone'), broken));
    }
    const body = cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() });
    expect((await test.api.post('/card-certificates', body, 'left')).status).toBe(500);
    expect(await test.api.post('/card-certificates', body, 'left')).toMatchObject({
      status: 409,
      body: { title: 'request-in-progress' },
    });
    await test.close();

    const again = await startTestService({ folder });
    const answer = await again.api.post<Issued>('/card-certificates', body, 'left');
    expect(answer).toMatchObject({ status: 201, replayed: true });
    expect(answer.body.certificates).toHaveLength(2);
    expect(again.log()).toContain('rolled forward');
    const ca = await fetchCrl(`${again.service.addresses.crl}/ca/signing-1.cer`);
    const certificate = derOf(pemOf(answer.body, 'card-signing'));
    expect(
      openssl(
        'verify',
        '-CAfile',
        fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(ca))),
        fileOf(pemOf(answer.body, 'card-signing')),
      ),
    ).toContain('OK');
    const response = await askOcsp(again.service.addresses.ocsp, await ocspRequest(certificate, ca));
    expect(openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text')).toContain(
      'Cert Status: good',
    );
    await again.close();
  });

  it('what was revoked is revoked, in OCSP and CRL, and answers are replayed', async () => {
    const test = await startTestService();
    const { folder } = test;
    const holder = await issueCard(test.api);
    const event = { event: 'card-returned', cardId: holder.cardId };
    const before = await test.api.post('/events', event, 'once');
    await test.close();

    const again = await startTestService({ folder });
    expect(await again.api.post('/events', event, 'once')).toEqual({ ...before, replayed: true });
    const ca = await fetchCrl(`${again.service.addresses.crl}/ca/signing-1.cer`);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    const response = await askOcsp(again.service.addresses.ocsp, await ocspRequest(certificate, ca));
    expect(openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text')).toContain(
      'Cert Status: revoked',
    );
    const serial = holder.card.certificates[0]?.serialNumber ?? '';
    await until('the CRL lists it', async () => listed(await fetchCrl(crlAddress(certificate))).has(serial));
    await again.close();
  });

  it('what was recorded last is in its follower’s journal once it has stopped', async () => {
    const test = await startTestService();
    const holder = await issueCard(test.api);
    // As where it stops between a commit and the next delivery.
    const feed = test.service.ca.store.feed as RecordFeed;
    const delivering = vi.spyOn(feed, 'deliver').mockResolvedValue();
    const before = statSync(layout(test.folder).journal).size;
    expect((await test.api.post('/events', { event: 'died', holderId: holder.holderId })).status).toBe(200);
    expect(statSync(layout(test.folder).journal).size).toBe(before);
    delivering.mockRestore();
    await test.close();
    expect(readFileSync(layout(test.folder).journal, 'utf8').slice(before)).toContain('"change":"revoked"');
  });

  it('a file of names and addresses is nowhere on disk in the clear', async () => {
    const test = await startTestService();
    await issueCard(test.api);
    const { folder } = test;
    await test.close();
    const { output } = await shell(`grep -rlaE '花子|渋谷区例町' ${folder} || true`);
    expect(output).toBe('');
  });

  it('a responder certificate in its last third is replaced', async () => {
    const folder = await dataFolder({ ocsp: { responderValidity: '3min', responderSuites: bySuites } });
    const test = await startTestService({ folder });
    const responders = join(folder, 'ocsp', 'responders.json');
    const before = readFileSync(responders, 'utf8');
    await test.close();
    test.clock.advance(130_000);
    const again = await startTestService({ folder, clock: test.clock });
    const after = readFileSync(responders, 'utf8');
    expect(JSON.parse(after)).toHaveLength(4);
    expect(after).not.toBe(before);
    const ca = await fetchCrl(`${again.service.addresses.crl}/ca/signing-1.cer`);
    const response = await askOcsp(again.service.addresses.ocsp, await ocspRequest(ca, ca));
    expect(openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text')).toContain(
      'Cert Status: good',
    );
    await again.close();
  });
});
