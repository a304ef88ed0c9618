import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import { endWaits } from '../../ca/revoke/timed.ts';
import { derOf } from '../support/actors.ts';
import {
  addClient,
  issueCard,
  issuePhone,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { dayMs, expectRefusal, good, Person } from '../support/holder-rules.ts';
import { type Personalisation, TsmSimulator } from '../support/tsm-simulator.ts';

// The SP-TSM on the way in: what is issued to a phone is stored by it, and good from then on.

let test: TestService;
let tsm: TsmSimulator;
let client: CaClient;
const soon = { timeout: 20_000 };
const waiting = ['authentication held by not-delivered', 'signing held by not-delivered'];

beforeAll(async () => {
  tsm = await TsmSimulator.start();
  const notices = {
    tsm: tsm.receiver.url,
    timeout: '500ms',
    retryFirst: '50ms',
    retryMost: '200ms',
    confirmWithin: '1s',
  };
  test = await startTestService({
    overrides: {
      notices,
      issuing: { termsVersions: ['2026-04', '2026-10'] },
      limits: { phonesPerPlatform: 1 },
    },
  });
  tsm.receiver.trust(test.folder);
  client = (await addClient(test, 'sp-tsm', { roles: ['tsm'] })).client;
});
afterAll(async () => {
  await tsm.stop();
  await client.close();
  await test.close();
  removeScratch();
});

const terms = '2026-10';
async function enrolled(): Promise<{ person: Person; deviceId: string; issued: Issued }> {
  const person = await Person.withCard(test);
  const deviceId = `${person.holderId}-p`;
  const { status, body } = await person.enrol(deviceId, 'issue-to-phone', { terms });
  expect(status, JSON.stringify(body)).toBe(201);
  return { person, deviceId, issued: body };
}
const orders = (type: string, deviceId: string): Personalisation[] =>
  tsm.receiver
    .messages()
    .filter((message) => message.type === type && message.deviceId === deviceId) as Personalisation[];

describe('terms of use', () => {
  it('have to be agreed to, in a version that the operator names, in what the card signs', async () => {
    const person = await Person.withCard(test);
    const deviceId = `${person.holderId}-p`;
    for (const wrong of [{}, { terms: '2019-01' }, { terms: '' }])
      expectRefusal(
        await person.enrol(deviceId, 'issue-to-phone', wrong),
        409,
        'terms-not-agreed',
        /2026-04 or 2026-10/,
      );
    expect((await person.enrol(deviceId, 'issue-to-phone', { terms: '2026-04' })).status).toBe(201);
  });
});

describe('what is issued to a phone', () => {
  it('is held until the TSM has stored it, which is ordered with it, signed, until it is confirmed', async () => {
    const { person, deviceId, issued } = await enrolled();
    expect(issued.awaited).toBe(true);
    expect(await person.onPhone(deviceId)).toEqual(waiting);
    await expect.poll(() => orders('personalisation', deviceId).length, soon).toBe(1);
    const [order] = orders('personalisation', deviceId);
    expect(order).toMatchObject({ instance: issued.issuanceId, deviceId, occasion: 'issued' });
    expect(order?.certificates.map(({ kind }) => kind).sort()).toEqual([
      'phone-authentication',
      'phone-signing',
    ]);
    for (const { kind, certificate } of issued.certificates)
      expect(derOf(order?.certificates.find((each) => each.kind === kind)?.certificate ?? '')).toEqual(
        derOf(certificate),
      );
    const path = `/orders/${order?.messageId}/confirmation`;
    expectRefusal(await client.post(path, undefined), 409, 'illegal-transition', /issuances.*storage/);
    // Not confirmed, it is ordered again.
    test.clock.advance(2000);
    const times = () => tsm.receiver.had.get(order?.messageId ?? '')?.times ?? 0;
    await expect.poll(times, soon).toBeGreaterThan(1);
    tsm.serve(client, test.folder);
    await expect.poll(() => person.onPhone(deviceId), soon).toEqual(good);
    const { body } = await test.api.get<{ media: { mediumId: string; applets: object[] }[] }>(
      `/holders/${person.holderId}`,
    );
    expect(body.media.find(({ mediumId }) => mediumId === `phone:${deviceId}`)?.applets).toEqual([
      {
        instance: issued.issuanceId,
        instanceId: tsm.instances.get(issued.issuanceId)?.instanceId,
        version: '3.1.0',
      },
    ]);
    const said = times();
    test.clock.advance(10_000);
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(times()).toBe(said);
  });

  it('that never is confirmed ends by itself, its order with it, and the holder may enrol again', async () => {
    // What is asked of another phone than the simulator's: it fails for it alone.
    const before = tsm.receiver.mood;
    tsm.receiver.mood = () => 'fails';
    const { person, deviceId } = await enrolled();
    test.clock.advance(6 * dayMs);
    expect(await person.onPhone(deviceId)).toEqual(waiting);
    test.clock.advance(2 * dayMs);
    await expect
      .poll(() => person.onPhone(deviceId), soon)
      .toEqual(['authentication unspecified', 'signing unspecified']);
    tsm.receiver.mood = before;
    const { body } = await test.api.get<{ messages: { deviceId: string; type: string }[] }>(
      '/outbox?state=waiting',
    );
    expect(
      body.messages.filter((each) => each.deviceId === deviceId && each.type === 'personalisation'),
    ).toEqual([]);
    expect((await person.enrol(`${deviceId}-2`, 'issue-to-phone', { terms })).status).toBe(201);
    await expect.poll(() => person.onPhone(`${deviceId}-2`), soon).toEqual(good);
  });

  it('a signing certificate that comes alone is stored like a pair', async () => {
    const { person, deviceId } = await enrolled();
    await expect.poll(() => person.onPhone(deviceId), soon).toEqual(good);
    expect((await person.atDesk({ event: 'moved' }, ['signing'])).status).toBe(201);
    const alone = await person.enrol(deviceId, 'issue-to-phone', {
      terms,
      authentication: undefined,
    } as object);
    expect(alone).toMatchObject({ status: 201, body: { awaited: true } });
    await expect
      .poll(async () => (await person.onPhone(deviceId)).filter((each) => each.endsWith('good')), soon)
      .toEqual(good);
  });
});

describe('a TSM whose way is bad', () => {
  it('has each phone installed once, and each deleted that is given up, whatever is lost, repeated or late', async () => {
    tsm.weather = { loss: 0.4, repetition: 0.5, delayMs: 300 };
    const phones = await Promise.all(Array.from({ length: 12 }, () => enrolled()));
    const isGood = async ({ person, deviceId }: (typeof phones)[number]) =>
      (await person.onPhone(deviceId)).join() === good.join();
    // Some are changed while the first is still on its way, some given up, some lost.
    const [changed, givenUp, waits] = [phones.slice(0, 4), phones.slice(4, 8), phones.slice(8)];
    for (const { person, deviceId } of givenUp)
      expect((await person.report({ event: 'phone-given-up', deviceId })).status).toBe(200);
    for (const { person, deviceId } of changed) {
      await expect.poll(() => person.onPhone(deviceId), soon).toEqual(good);
      const next = await person.enrol(`${deviceId}-2`, 'change-phone', { terms, replaces: deviceId });
      expect(next.status, JSON.stringify(next.body)).toBe(201);
    }
    for (const phone of waits) await expect.poll(() => isGood(phone), soon).toBe(true);
    for (const { person, deviceId } of changed) {
      await expect.poll(() => person.onPhone(`${deviceId}-2`), soon).toEqual(good);
      expect(await person.onPhone(deviceId)).toEqual(['authentication superseded', 'signing superseded']);
    }
    const deleted = (deviceId: string) =>
      [...tsm.instances.values()].filter((each) => each.deviceId === deviceId && each.isDeleted).length;
    for (const { deviceId } of changed) await expect.poll(() => deleted(deviceId), soon).toBe(1);
    tsm.weather = { loss: 0, repetition: 0, delayMs: 0 };
    const open = async () => {
      const answers = await Promise.all(
        ['waiting', 'delivered'].map((state) =>
          test.api.get<{ messages: { type: string }[] }>(`/outbox?state=${state}`),
        ),
      );
      test.clock.advance(2000);
      return answers.flatMap(({ body }) => body.messages).length;
    };
    await expect.poll(open, soon).toBe(0);
    for (const { person, deviceId } of givenUp)
      expect((await person.onPhone(deviceId)).every((each) => each.endsWith('cessationOfOperation'))).toBe(
        true,
      );
    for (const { deviceId } of [...phones])
      expect(
        [...tsm.instances.values()].filter((each) => each.deviceId === deviceId && !each.isDeleted).length,
      ).toBeLessThan(2);
    expect(tsm.faults).toEqual([]);
    expect(tsm.receiver.forged).toEqual([]);
  }, 60_000);
});

describe('an issuance that is not signed yet when its time is over', () => {
  it.each(['is overdue', 'is refused by the TSM'])(
    'never becomes good, where it %s',
    async (how) => {
      const storageWait = how === 'is overdue' ? '1s' : '7d';
      const overrides = { notices: { tsm: 'http://127.0.0.1:1/' }, activation: { storageWait } };
      let service = await startTestService({ overrides });
      const { folder, clock } = service;
      const holder = await issueCard(service.api);
      const { store } = service.service.ca;
      // The token is gone, or the process ends, between the reservation and its completion.
      Object.assign(store, { complete: () => Promise.reject(new Error('the token is gone')) });
      await expect(issuePhone(service.api, holder)).rejects.toThrow(/issuing to a phone/);
      if (how === 'is overdue') {
        await new Promise((resolve) => setTimeout(resolve, 1100));
        await endWaits(service.service.ca);
      } else {
        const [reserved] = await store.pendingReservations('own-and-expired');
        const { client: sp } = await addClient(service, 'sp-tsm', { roles: ['tsm'] });
        expect((await sp.post(`/issuances/${reserved}/storage`, { stored: false })).status).toBe(200);
        await sp.close();
      }
      await service.close();
      service = await startTestService({ folder, clock });
      type Shown = { certificates: { kind: string; status: { state: string } }[] };
      const { body } = await service.api.get<Shown>(`/holders/${holder.holderId}`);
      const phone = body.certificates.filter(({ kind }) => kind.startsWith('phone-'));
      expect(phone.map(({ status }) => status.state)).toEqual(['revoked', 'revoked']);
      await service.close();
    },
    60_000,
  );
});
