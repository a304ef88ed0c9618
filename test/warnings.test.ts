import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endingSoon, WarningBoard, warningKinds } from '../core/node/warnings.ts';
import { startCrlNode } from '../crl/node/service.ts';
import { tooLong } from '../crl/publish/warnings.ts';
import { startOcspNode } from '../ocsp/node/service.ts';
import {
  addClient,
  dataFolder,
  freePort,
  issueCard,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from './support/harness.ts';

// What will hurt is said before it does: in the log, in /health and in metrics.

const dayMs = 86_400_000;
afterAll(removeScratch);

interface Shown {
  warnings?: { kind: string; about: string; at: string | null; act: string }[];
}

function recorder() {
  const lines: { level: number; msg: string; kind?: string; about?: string }[] = [];
  return { lines, logger: pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) }) };
}

describe('a warning of an end', () => {
  const how = { kind: 'tls-ends', act: 'act', aheadMs: 10 * dayMs, nowMs: 1000 * dayMs } as const;
  const at = (endsMs: number, beginsMs?: number) =>
    endingSoon([{ about: 'x', endsMs, ...(beginsMs === undefined ? {} : { beginsMs }) }], how).length;

  it.each([
    ['comes at the configured time', 1010 * dayMs, undefined, 1],
    ['does not come before', 1010 * dayMs + 1, undefined, 0],
    ['stands after the end for as long', 990 * dayMs, undefined, 1],
    ['and no longer', 990 * dayMs - 1, undefined, 0],
    ['of what is short-lived comes in its last quarter', 1001 * dayMs, 997 * dayMs, 1],
    ['and not before', 1002 * dayMs, 997 * dayMs, 0],
  ])('%s', (_what, endsMs, beginsMs, count) => {
    expect(at(endsMs, beginsMs)).toBe(count);
  });

  it('is logged once a day, never as an error, and counted by kind', async () => {
    const { lines, logger } = recorder();
    const clock = new ManualClock();
    const board = new WarningBoard();
    const registry = new Registry();
    board.measure(registry);
    const warnings = endingSoon([{ about: 'x', endsMs: 1000 * dayMs }], how);
    for (let times = 0; times < 3; times += 1) board.show(warnings, { clock, logger });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ level: 40, msg: 'WARNING', kind: 'tls-ends', about: 'x' });
    expect(await registry.metrics()).toContain('warifu_warnings{kind="tls-ends"} 1');
    board.show([], { clock, logger });
    board.show(warnings, { clock, logger });
    expect(lines).toHaveLength(2);
    expect(await registry.metrics()).toContain('warifu_warnings{kind="client-ends"} 0');
  });

  it('of CRLs names the longest of those that are too long', () => {
    const shard = (path: string, octets: number) => ({ path, complete: { octets } }) as never;
    expect(tooLong([shard('a', 10), shard('b', 10)], 10)).toEqual([]);
    expect(tooLong([shard('a', 11), shard('b', 12), shard('c', 9)], 10)).toMatchObject([
      { kind: 'crl-too-long', about: expect.stringMatching(/^b \(12 octets\), the longest of 2 beyond 10$/) },
    ]);
  });
});

describe('a service', () => {
  let test: TestService;
  let metrics: number;
  beforeAll(async () => {
    metrics = await freePort();
    const overrides: Record<string, unknown> = {
      caValidityYears: 6,
      limits: { clientBinding: '365d', clientCertificate: '90d' },
      warnings: { crlOctets: 100, authority: '2400d', client: '91d', binding: '366d' },
      metrics: { host: '127.0.0.1', port: metrics },
    };
    test = await startTestService({ folder: await dataFolder(overrides as Record<string, object>) });
    await issueCard(test.api);
    const { folder, clock } = test;
    await test.close();
    test = await startTestService({ folder, clock });
  });
  afterAll(async () => {
    await test.close();
  });

  it('says in /health, log and metrics what will hurt, and what to do', async () => {
    const { body } = await test.api.get<Shown>('/health');
    const kinds = new Set(body.warnings?.map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual([
      'authority-ends',
      'authority-too-old',
      'binding-ends',
      'client-ends',
      'crl-too-long',
    ]);
    for (const { act } of body.warnings ?? []) expect(act.length).toBeGreaterThan(10);
    expect(body.warnings).toContainEqual(
      expect.objectContaining({ kind: 'client-ends', about: expect.stringMatching(/^first client \(/) }),
    );
    expect(test.log().split('"WARNING"').length - 1).toBe(body.warnings?.length);
    const text = await (await request(`http://127.0.0.1:${metrics}/metrics`)).body.text();
    for (const kind of warningKinds)
      expect(text).toMatch(
        new RegExp(`warifu_warnings\\{kind="${kind}"\\} ${kinds.has(kind) ? '[1-9]' : 0}`),
      );
  });

  it('names them to administrators and readers alone', async () => {
    for (const [role, isTold] of [
      ['reader', true],
      ['verifier', false],
      ['issuer', false],
    ] as const) {
      const { client } = await addClient(test, `health-${role}`, { roles: [role] });
      const { body } = await client.get<Shown>('/health');
      expect(body.warnings !== undefined, role).toBe(isTold);
      await client.close();
    }
  });

  it('says no more of a client that was shut out', async () => {
    const main = new URL('../ca/main.ts', import.meta.url).pathname;
    expect(spawnSync(process.execPath, [main, 'client', 'unused', '--data', test.folder]).status).toBe(0);
    expect(test.service.ca.warnings.current.some(({ about }) => about.startsWith('unused'))).toBe(false);
  });
});

describe('a node elsewhere', () => {
  it('warns of its own client certificate and delegations, in log and metrics', async () => {
    const test = await startTestService({ overrides: { limits: { clientCertificate: '90d' } } });
    await (await addClient(test, 'node', { roles: ['follower', 'ocsp'] })).client.close();
    const folder = join(scratch(), 'node');
    mkdirSync(folder, { recursive: true });
    for (const [from, to] of [
      ['clients/node.key', 'node.key'],
      ['clients/node.pem', 'node.pem'],
      ['tls/operations-ca.pem', 'ca.pem'],
      ['ocsp/responders.json', 'responders.json'],
    ] as const)
      copyFileSync(join(test.folder, from), join(folder, to));
    const { caToken, ocspToken } = test.service.ca.config.pkcs11;
    const token = ({ label, pinFile }: { label: string; pinFile: string }) => ({
      label,
      pinFile: join(test.folder, pinFile),
    });
    const ports = [await freePort(), await freePort(), await freePort()];
    const config = {
      // Nothing answers there: what ends is not renewed.
      feed: { url: `https://127.0.0.1:${ports[2]}`, key: 'node.key', cert: 'node.pem', ca: 'ca.pem' },
      ocsp: { port: ports[0] },
      crl: { port: ports[0] },
      pkcs11: { signingThreads: 1, caToken: token(caToken), ocspToken: token(ocspToken) },
      metrics: { host: '127.0.0.1', port: ports[1] },
    };
    writeFileSync(join(folder, 'node.json'), JSON.stringify(config));
    const clock = new ManualClock();
    clock.advance(80 * dayMs);
    const metricsNow = async () => (await request(`http://127.0.0.1:${ports[1]}/metrics`)).body.text();
    for (const [start, kinds] of [
      [startOcspNode, ['client-ends']],
      [startCrlNode, ['client-ends']],
    ] as const) {
      const { lines, logger } = recorder();
      const node = await start({ folder, clock, logger });
      const said = lines.filter(({ msg }) => msg === 'WARNING').map(({ kind }) => kind);
      expect(said).toEqual(kinds);
      expect(await metricsNow()).toContain('warifu_warnings{kind="client-ends"} 1');
      await node.close();
    }
    // A delegation of seven days, in its last one.
    const soon = new ManualClock();
    soon.advance(6.5 * dayMs);
    const { lines, logger } = recorder();
    const node = await startOcspNode({ folder, clock: soon, logger });
    expect(new Set(lines.filter(({ msg }) => msg === 'WARNING').map(({ kind }) => kind))).toEqual(
      new Set(['responder-ends']),
    );
    await node.close();
    await test.close();
  });
});

describe('documented procedures', () => {
  it('log nothing as an error: generation, client, backup, renewal of responders and TLS, restart', async () => {
    let test = await startTestService();
    const main = new URL('../ca/main.ts', import.meta.url).pathname;
    const { folder, clock } = test;
    const warifu = (...args: string[]): void => {
      const { status, stderr } = spawnSync(process.execPath, [main, ...args, '--data', folder], {
        encoding: 'utf8',
      });
      expect(status, stderr).toBe(0);
    };
    await issueCard(test.api);
    warifu('generation', '--suite', 'p384-sha384');
    const { client, fingerprint } = await addClient(test, 'other', { roles: ['reader'] });
    await test.api.post(`/clients/${fingerprint}/revocation`, undefined);
    await client.close();
    warifu('backup', join(scratch(), 'backup.db'));
    let log = test.log();
    for (const days of [5, 62]) {
      await test.close();
      clock.advance(days * dayMs);
      test = await startTestService({ folder, clock });
      log += test.log();
    }
    await test.close();
    log += test.log();
    expect(log.split('\n').filter((line) => /"level":(50|60)/.test(line))).toEqual([]);
  });
});
