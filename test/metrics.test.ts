import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gauge, makeRegistry } from '../core/http/metrics.ts';
import { askOcsp, derOf, fetchCrl, ocspRequest, pemOf, until } from './support/actors.ts';
import {
  dataFolder,
  freePort,
  issueCard,
  ManualClock,
  removeScratch,
  startTestService,
  type TestService,
} from './support/harness.ts';

// What operators watch: metrics with alert rules and a dashboard that ask for what there is, and what load balancers ask.

const monitoring = (name: string): string =>
  readFileSync(new URL(`../docs/monitoring/${name}`, import.meta.url), 'utf8');

let test: TestService;
let clock: ManualClock;
let metrics: string;

beforeAll(async () => {
  const port = await freePort();
  metrics = `http://127.0.0.1:${port}`;
  clock = new ManualClock();
  test = await startTestService({
    folder: await dataFolder({ metrics: { host: '127.0.0.1', port } }),
    clock,
  });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const get = async (url: string, method: 'GET' | 'HEAD' | 'POST' = 'GET') => {
  const { statusCode, body, headers } = await request(url, { method });
  return { status: statusCode, text: await body.text(), allow: headers.allow };
};
const scrape = async (): Promise<string> => (await get(`${metrics}/metrics`)).text;
const read = (text: string, series: string): number | undefined => {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
};
/** Names of series, without suffixes of histograms. */
const namesIn = (text: string): Set<string> =>
  new Set([...text.matchAll(/\bwarifu_[a-z0-9_]+/g)].map(([name]) => name));

describe('metrics', () => {
  it('are what promtool takes without a complaint', async () => {
    await issueCard(test.api);
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: await scrape(), encoding: 'utf8' });
    // Names of the process's own metrics are those of prom-client.
    const ours = checked.stderr
      .split('\n')
      .filter((line) => line !== '' && !/^warifu_(nodejs|process)_/.test(line));
    expect(ours).toEqual([]);
    expect(checked.stdout).toBe('');
  });

  it('count requests by route, not by what a path names, and answers of OCSP by their status', async () => {
    const holder = await issueCard(test.api);
    expect((await test.api.get(`/holders/${holder.holderId}`)).status).toBe(200);
    expect((await test.api.get('/nothing/at/all')).status).toBe(404);
    const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    const asked = await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), issuer);
    const before = await scrape();
    await askOcsp(test.service.addresses.ocsp, asked);
    await askOcsp(test.service.addresses.ocsp, asked);
    await askOcsp(test.service.addresses.ocsp, Buffer.from('none'));
    const text = await scrape();
    const grown = (series: string): number => (read(text, series) ?? 0) - (read(before, series) ?? 0);
    expect(grown('warifu_ocsp_responses_total{status="successful"}')).toBe(2);
    expect(grown('warifu_ocsp_responses_total{status="malformedRequest"}')).toBe(1);
    expect(grown('warifu_ocsp_kept_responses_total')).toBeGreaterThanOrEqual(1);
    expect(
      read(text, 'warifu_api_request_seconds_count{route="/v1/holders/:holderId",method="GET",status="200"}'),
    ).toBe(1);
    expect(text).toMatch(/warifu_api_request_seconds_count\{route="none",method="GET",status="404"\} 1/);
    expect(text).not.toContain(holder.holderId);
  });

  it('say what hurts: outbox, restrictions, second persons, disk, clock, authorities, audit', async () => {
    await until('the record was verified', async () =>
      (await scrape()).includes('\nwarifu_record_verified_seconds '),
    );
    const text = await scrape();
    for (const [series, wanted] of [
      ['warifu_record_altered', 0],
      ['warifu_proposals_waiting', 0],
      ['warifu_restrictions_in_force', 0],
      ['warifu_outbox_given_up', 0],
      ['warifu_outbox_oldest_seconds', 0],
      ['warifu_clock_ahead_seconds', 0],
      ['warifu_other_nodes', 0],
      ['warifu_followers', 0],
      ['warifu_database_without_standby', 0],
    ] as const)
      expect([series, read(text, series)]).toEqual([series, wanted]);
    expect(read(text, 'warifu_disk_free_bytes')).toBeGreaterThan(1e6);
    expect(read(text, 'warifu_authority_not_after_seconds{authority="signing-1"}')).toBeGreaterThan(
      clock.wallMs() / 1000,
    );
    expect(read(text, 'warifu_feed_lag_seconds')).toBeLessThan(10);
  });

  it('are given without those that cannot be had, which are counted', async () => {
    const registry = makeRegistry();
    gauge(registry, { name: 'warifu_good', help: 'g', value: () => 7 });
    gauge(registry, { name: 'warifu_bad', help: 'b', value: () => Promise.reject(new Error('no record')) });
    gauge(registry, { name: 'warifu_hung', help: 'h', value: () => new Promise<number>(() => undefined) });
    const beganMs = performance.now();
    await registry.metrics();
    expect(performance.now() - beganMs).toBeLessThan(5000);
    const text = await registry.metrics();
    expect(text).toMatch(/^warifu_good 7$/m);
    expect(text).not.toMatch(/^warifu_(bad|hung) /m);
    expect(text).toMatch(/^warifu_metrics_failed_total\{metric="warifu_bad"\} [12]$/m);
    expect(text).toMatch(/^warifu_metrics_failed_total\{metric="warifu_hung"\} [12]$/m);
  });

  it('are all that alert rules and dashboard ask for', async () => {
    const text = await scrape();
    const there = namesIn(text);
    // A metric without a value, such as the lag of a node without followers, still has its help and type.
    const asked = new Set([...namesIn(monitoring('alerts.yml')), ...namesIn(monitoring('dashboard.json'))]);
    expect([...asked].filter((name) => !there.has(name))).toEqual([]);
    // And rules or dashboard show each that is the service's own.
    const own = [...text.matchAll(/^# TYPE (warifu_[a-z0-9_]+) /gm)]
      .map(([, name = '']) => name)
      .filter(
        (name) =>
          !/^warifu_(nodejs|process|signing_process|crl_(failures|postponed)|metrics_failed)/.test(name),
      );
    expect(own.filter((name) => ![...asked].some((each) => each.startsWith(name)))).toEqual([]);
  });

  it('have alert rules that promtool takes, each with what to do', () => {
    const file = new URL('../docs/monitoring/alerts.yml', import.meta.url).pathname;
    expect(execFileSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })).toContain('SUCCESS');
    const rules = monitoring('alerts.yml').split('- alert: ').slice(1);
    for (const rule of rules) expect(rule).toMatch(/action: \S/);
    expect(rules.length).toBeGreaterThan(10);
  });
});

describe('what load balancers ask', () => {
  it('is answered on the metrics, OCSP and CRL ports, to anyone, by GET and HEAD', async () => {
    const { ocsp, crl } = test.service.addresses;
    for (const address of [metrics, ocsp, crl])
      for (const path of ['/live', '/ready']) {
        expect(await get(`${address}${path}`)).toMatchObject({ status: 200, text: `${path.slice(1)}\n` });
        expect(await get(`${address}${path}`, 'HEAD')).toMatchObject({ status: 200, text: '' });
        expect(await get(`${address}${path}`, 'POST')).toMatchObject({ status: 405, allow: 'GET, HEAD' });
      }
    expect((await get(`${metrics}/other`)).status).toBe(404);
  });

  it('is not ready where OCSP answers tryLater, and says why', async () => {
    const { ocsp, crl } = test.service.addresses;
    // Beyond what the feed may lag, until the next heartbeat.
    const hurried = setInterval(() => clock.advance(20_000), 20);
    try {
      await until('it is not ready', async () => (await get(`${ocsp}/ready`)).status === 503);
      const answer = await get(`${ocsp}/ready`);
      if (answer.status === 503) expect(answer.text).toContain('tryLater');
      expect((await get(`${ocsp}/live`)).status).toBe(200);
      expect((await get(`${crl}/live`)).status).toBe(200);
    } finally {
      clearInterval(hurried);
    }
    await until('it is ready again', async () => (await get(`${ocsp}/ready`)).status === 200);
    await until('so is the API', async () => (await get(`${metrics}/ready`)).status === 200);
  });
});
