import { X509Certificate } from 'node:crypto';
import { afterAll, describe, expect, it } from 'vitest';
import type { CaClient } from '../ca/client/client.ts';
import { RequestNumbers } from '../ca/request/request-numbers.ts';
import { askOcsp, derOf, fetchCrl, ocspRequest, pemOf, until } from './support/actors.ts';
import {
  addClient,
  fileOf,
  issueCard,
  ManualClock,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
  takeTimeBack,
} from './support/harness.ts';
import { expectRefusal } from './support/holder-rules.ts';

// The record's time: what a clock does to a service that runs, to one that starts, and how a wrong time is taken back.

const hourMs = 3_600_000;
afterAll(removeScratch);

const issues = async (api: CaClient): Promise<boolean> => {
  try {
    await issueCard(api);
    return true;
  } catch (error) {
    if (/clock-unreliable/.test((error as Error).message)) return false;
    throw error;
  }
};

async function thisUpdate(
  test: TestService,
  certificate: Uint8Array,
): Promise<{ atMs: number; status: string }> {
  const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
  const response = await askOcsp(test.service.addresses.ocsp, await ocspRequest(certificate, issuer));
  const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
  return {
    atMs: Date.parse(/This Update: (.*)/.exec(text)?.[1] ?? ''),
    status: /Cert Status: (\w+)/.exec(text)?.[1] ?? '',
  };
}

describe('a clock that steps ahead while the service runs', () => {
  it('stops issuing and nothing else, leaves nothing of its time, and is no matter once it is right', async () => {
    const test = await startTestService();
    const holder = await issueCard(test.api);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    test.clock.step(1000 * hourMs);
    expect(await issues(test.api)).toBe(false);
    expectRefusal(await test.api.get('/health'), 503, 'clock-unreliable', /stepped 3600000 s ahead/);
    const { body } = await test.api.get<{ recordTime: string; machineTime: string; unreliable: string }>(
      '/clock',
    );
    expect(Date.parse(body.machineTime) - Date.parse(body.recordTime)).toBeGreaterThan(999 * hourMs);
    const event = { event: 'card-returned', cardId: holder.cardId };
    expect((await test.api.post('/events', event)).status).toBe(200);
    const said = await thisUpdate(test, certificate);
    expect(said.status).toBe('revoked');
    expect(Math.abs(said.atMs - Date.now())).toBeLessThan(hourMs);
    test.clock.step(-1000 * hourMs);
    await until('it issues again', () => issues(test.api));
    expect((await test.api.get('/health')).status).toBe(200);
    await test.close();
  });
});

describe('the highest time', () => {
  it('is remembered by the token: a clock that is behind it issues nothing after a restart', async () => {
    let test = await startTestService();
    const { folder, clock } = test;
    clock.advance(100 * hourMs);
    // Nothing is written at that time; followers have received the time all the same.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await test.close();
    clock.step(-100 * hourMs);
    test = await startTestService({ folder, clock });
    expectRefusal(await test.api.get('/health'), 503, 'clock-unreliable', /behind what is on record/);
    expect(await issues(test.api)).toBe(false);
    clock.advance(100 * hourMs);
    await until('it issues again', () => issues(test.api));
    await test.close();
  });

  it('is taken back by two administrators, not by one, and stays so over a restart', async () => {
    let test = await startTestService();
    const { folder, clock } = test;
    const holder = await issueCard(test.api);
    clock.advance(1000 * hourMs);
    expect(await issues(test.api)).toBe(true);
    await test.close();
    clock.step(-1000 * hourMs);
    test = await startTestService({ folder, clock });
    expect(await issues(test.api)).toBe(false);
    const { body } = await test.api.post<{ correctionId: string }>('/clock/corrections', {
      note: 'was ahead',
    });
    const path = `/clock/corrections/${body.correctionId}/approval`;
    expectRefusal(await test.api.post(path, undefined), 403, 'forbidden', /by another client/);
    expect(await issues(test.api)).toBe(false);
    await takeTimeBack(test);
    expect(await issues(test.api)).toBe(true);
    const { client } = await addClient(test, 'late', { roles: ['administrator'] });
    expectRefusal(await client.post(path, undefined), 409, 'illegal-transition');
    await client.close();
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    await until('answers are of now', async () => {
      const { atMs } = await thisUpdate(test, certificate);
      return Math.abs(atMs - Date.now()) < hourMs;
    });
    const crl = `${test.service.addresses.crl}/crl/card-signing/1/13113/0.crl`;
    await until('lists are of now', async () => {
      const text = openssl(
        'crl',
        '-inform',
        'DER',
        '-noout',
        '-lastupdate',
        '-in',
        fileOf(await fetchCrl(crl)),
      );
      return Math.abs(Date.parse(text.split('=')[1] ?? '') - Date.now()) < hourMs;
    });
    await test.close();
    test = await startTestService({ folder, clock });
    expect(await issues(test.api)).toBe(true);
    const { body: state } = await test.api.get<{ unreliable: null; corrections: { state: string }[] }>(
      '/clock',
    );
    expect(state.unreliable).toBeNull();
    expect(state.corrections.map((each) => each.state)).toEqual(['proposed', 'approved']);
    const refused = await test.api.post('/clock/corrections', {});
    expectRefusal(refused, 409, 'illegal-transition', /not behind/);
    await test.close();
  });

  it('bounds a start where clock.startStepMax does: nothing is issued, everything else goes on', async () => {
    let test = await startTestService({ overrides: { clock: { startStepMax: '1d' } } });
    const { folder, clock } = test;
    const holder = await issueCard(test.api);
    await test.close();
    clock.step(48 * hourMs);
    test = await startTestService({ folder, clock });
    expect(test.log()).toMatch(/the last time on record is \d+ min ago/);
    expectRefusal(await test.api.get('/health'), 503, 'clock-unreliable', /beyond clock.startStepMax/);
    expect(await issues(test.api)).toBe(false);
    const event = { event: 'card-returned', cardId: holder.cardId };
    expect((await test.api.post('/events', event)).status).toBe(200);
    await test.close();
    clock.step(-48 * hourMs);
    test = await startTestService({ folder, clock });
    expect(await issues(test.api)).toBe(true);
    await test.close();
  });
});

describe('numbers of requests', () => {
  it('differ where a second comes again', async () => {
    const clock = new ManualClock();
    const numbers = new RequestNumbers(clock, 0);
    const given = new Set<string>();
    const take = async () => {
      const { secondMs, sequence } = await numbers.next();
      const name = `${secondMs} ${sequence}`;
      expect(sequence).toBeLessThan(100_000);
      expect(given.has(name)).toBe(false);
      given.add(name);
    };
    for (let times = 0; times < 4; times += 1) {
      for (let second = 0; second < 20; second += 1) {
        await take();
        clock.advance(1000);
      }
      const fromMs = clock.wallMs();
      clock.step(-20_000);
      numbers.takeBack({ fromMs, toMs: clock.wallMs() });
    }
    for (let second = 0; second < 25; second += 1) {
      await take();
      clock.advance(1000);
    }
    expect(given.size).toBe(105);
  });
});

it('a certificate’s birthday is counted from the true time of issue, in Japan', async () => {
  const test = await startTestService();
  // Just after midnight in Japan, when a certificate's own time, a minute back, is of the day before.
  const now = new Date(Date.now() + 9 * hourMs);
  const midnight = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() + 1) - 9 * hourMs;
  test.clock.step(midnight + 20_000 - Date.now());
  const day = new Date(midnight + 9 * hourMs);
  const born = `1990-${String(day.getUTCMonth() + 1).padStart(2, '0')}-${String(day.getUTCDate()).padStart(2, '0')}`;
  await test.close();
  const again = await startTestService({ folder: test.folder, clock: test.clock });
  const basicFour = {
    name: '番号　花子',
    address: '東京都渋谷区例町一丁目１番地',
    birthDate: born,
    sex: 'female',
  };
  const last = `${day.getUTCFullYear() + 10}-${born.slice(5)}`;
  const holder = await issueCard(again.api, { basicFour, cardExpiresOn: last });
  const { validToDate } = new X509Certificate(pemOf(holder.card, 'card-signing'));
  // The birthday itself is no birthday after it: the fifth is in five years.
  expect(new Date(validToDate.getTime() + 9 * hourMs).toISOString().slice(0, 10)).toBe(
    `${day.getUTCFullYear() + 5}-${born.slice(5)}`,
  );
  await again.close();
});
