import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ratesOf, screenOf, statusOf } from '../../ca/client/status-screen.ts';
import {
  addClient,
  issueCard,
  removeScratch,
  runWarifu,
  startTestService,
  type TestService,
} from '../support/harness.ts';

let test: TestService;
beforeAll(async () => {
  test = await startTestService();
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

describe('warifu status', () => {
  it('shows once what the API tells, where it is no terminal', async () => {
    await issueCard(test.api);
    const { code, output } = await runWarifu('status', '--data', test.folder);
    expect(code).toBe(0);
    expect(output).toMatch(/^Warifu {2}n1 {2}development {2}ok/);
    expect(output).toMatch(/Signed {2}certificates \d+ \(–\) {2}CRLs \d+/);
    expect(output).toMatch(/signing-1 +rsa2048-sha256 +issues +to 20\d\d-/);
    expect(output).toContain('Other CA nodes: none');
    const { output: json } = await runWarifu('status', '--data', test.folder, '--json');
    expect(JSON.parse(json)).toMatchObject({
      service: { node: 'n1' },
      health: { status: 'ok' },
      undelivered: 0,
      proposals: 0,
    });
  });

  it('follows the service on a terminal, and ends when it is interrupted', async () => {
    // script(1) gives it a terminal.
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const command = `${process.execPath} ${main} status --every 0.3 --data ${test.folder}`;
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, COLUMNS: '100', LINES: '40' },
    });
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += String(chunk);
    });
    await vi.waitFor(() => expect(said).toMatch(/certificates \d+ \(\d+\.\d\/s\)/), { timeout: 10_000 });
    expect(said).toContain('\x1b[H');
    const ended = new Promise((resolve) => child.once('exit', resolve));
    execFile('pkill', ['-INT', '-f', `status --every 0.3 --data ${test.folder}`]);
    await ended;
  }, 20_000);

  it('says in a line what is wrong: no service, no file, no right', async () => {
    const gone = await runWarifu('status', '--data', test.folder, '--url', 'https://127.0.0.1:1');
    expect([gone.code, gone.output.trim().split('\n')]).toMatchObject([
      1,
      [expect.stringContaining('ECONNREFUSED')],
    ]);
    const none = await runWarifu('status', '--data', '/no/such/folder');
    expect(none.output).toContain('is no data folder');
    const { client } = await addClient(test, 'issuer', { roles: ['issuer'], desks: ['DESK00001'] });
    await expect(statusOf(client)).rejects.toThrow('this needs the role administrator or reader');
    await client.close();
  });

  it('shows no control characters of others, and no line wider than the screen', async () => {
    const status = await statusOf(test.api);
    const evil = '\x1b[2J\u202eevil'.repeat(20);
    const lines = screenOf(
      {
        ...status,
        service: {
          ...status.service,
          followers: [
            { clientId: 'x', name: evil, connectedAt: status.service.at, knownTo: null, lagSeconds: null },
          ],
        },
      },
      status,
      80,
    );
    expect(lines.join('\n')).toContain('evil');
    expect(lines.every((line) => line.length <= 80 && !/[\p{Cc}\p{Cf}]/u.test(line))).toBe(true);
  });

  it('reckons no rate over a restart', async () => {
    const { service } = await statusOf(test.api);
    const later = {
      ...service,
      at: new Date(Date.parse(service.at) + 2000).toISOString(),
      counts: { ...service.counts, certificates: service.counts.certificates + 10 },
    };
    expect(ratesOf(later, service)?.certificates).toBe(5);
    expect(ratesOf({ ...later, startedAt: later.at }, service)).toBeUndefined();
    expect(ratesOf(service, service)).toBeUndefined();
  });

  it('tells a follower’s lag while it is connected', async () => {
    const { client } = await addClient(test, 'node-1', { roles: ['follower'] });
    const { Agent, request } = await import('undici');
    const { readFileSync } = await import('node:fs');
    const file = (name: string): string => readFileSync(join(test.folder, name), 'utf8');
    const dispatcher = new Agent({
      connect: {
        ca: file('tls/operations-ca.pem'),
        cert: file('clients/node-1.pem'),
        key: file('clients/node-1.key'),
      },
    });
    const { body } = await request(`${test.service.addresses.api}/v1/feed`, { dispatcher });
    body.on('error', () => undefined).resume();
    await vi.waitFor(
      async () => {
        const { service } = await statusOf(test.api);
        expect(service.followers).toMatchObject([{ name: 'node-1' }]);
        expect(service.followers[0]?.lagSeconds).toBeLessThan(5);
      },
      { timeout: 10_000 },
    );
    body.destroy();
    await vi.waitFor(async () => expect((await statusOf(test.api)).service.followers).toEqual([]), {
      timeout: 10_000,
    });
    await dispatcher.destroy();
    await client.close();
  });
});
