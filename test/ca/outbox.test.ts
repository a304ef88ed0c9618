import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Answer, CaClient } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import type { Delivery } from '../../ca/notify/delivery.ts';
import { Outbox } from '../../ca/notify/outbox.ts';
import { onlyNode } from '../../store/api/nodes.ts';
import type { Message, OutboxStore } from '../../store/api/outbox-store.ts';
import { derOf, namedClient, pemOf, until } from '../support/actors.ts';
import {
  addClient,
  type Holder,
  issueCard,
  issuePhone,
  removeScratch,
  setPreferences,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { Mailbox } from '../support/mailbox.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';
import { type Mood, Receiver } from '../support/tsm.ts';
import { signReceipt } from '../support/verifiers.ts';

// Orders and notices: whatever happens, they arrive, at least once, signed; what cannot be delivered is seen.

interface Shown {
  messageId: string;
  state: string;
  attempts: number;
  lastError: string | null;
  type: string;
  deviceId: string | null;
}

const soon = { timeout: 15_000 };
let test: TestService;
let api: CaClient;
let tsm: Receiver;
let portal: Receiver;
let bank: Receiver;
let mailbox: Mailbox;

beforeAll(async () => {
  [tsm, portal, bank] = [await Receiver.start(), await Receiver.start(), await Receiver.start()];
  mailbox = await Mailbox.start();
  const notices = {
    tsm: tsm.url,
    portal: portal.url,
    verifiers: [{ name: 'bank', url: bank.url }],
    mail: { host: '127.0.0.1', port: mailbox.port, from: 'ca@example', tls: 'never' },
    timeout: '500ms',
    retryFirst: '50ms',
    retryMost: '200ms',
    attemptsMax: 6,
    confirmWithin: '1h',
  };
  test = await startTestService({ overrides: { notices, activation: { phone: 'at-once' } } });
  api = test.api;
  for (const receiver of [tsm, portal, bank]) receiver.trust(test.folder);
});
afterAll(async () => {
  await test.close();
  for (const receiver of [tsm, portal, bank]) await receiver.stop();
  await mailbox.stop();
  removeScratch();
});
beforeEach(() => {
  for (const receiver of [tsm, portal, bank]) receiver.mood = () => 'takes';
});

async function outbox(state: string): Promise<Shown[]> {
  return (await api.get<{ messages: Shown[] }>(`/outbox?state=${state}`)).body.messages;
}
const orderOf = async (state: string, deviceId: string) =>
  (await outbox(state)).filter((message) => message.deviceId === deviceId);

/** A holder whose phone was given up: two keys are to be deleted. */
async function givenUp(): Promise<{ holder: Holder; deviceId: string }> {
  const holder = await issueCard(api);
  const { deviceId } = await issuePhone(api, holder);
  expect((await api.post('/events', { event: 'phone-given-up', deviceId })).status).toBe(200);
  return { holder, deviceId };
}
const ordersAt = (deviceId: string) => tsm.messages().filter((message) => message.deviceId === deviceId);
const refused = (answer: Answer<unknown>, status: number, title: string) =>
  expect(answer).toMatchObject({ status, body: { title } });

describe('an order of remote deletion', () => {
  it('reaches the TSM, signed, one for each key, and is done when the TSM confirms', async () => {
    const { deviceId } = await givenUp();
    await expect.poll(() => ordersAt(deviceId).length, soon).toBe(2);
    expect(ordersAt(deviceId)).toMatchObject([
      { type: 'remote-deletion', occasion: 'ceased' },
      { type: 'remote-deletion', occasion: 'ceased' },
    ]);
    expect(tsm.forged).toEqual([]);
    await expect.poll(async () => (await orderOf('delivered', deviceId)).length, soon).toBe(2);
    const { client } = await addClient(test, 'sp-tsm', { roles: ['tsm'] });
    for (const { messageId } of ordersAt(deviceId)) {
      const first = await client.post<Shown>(`/orders/${messageId}/confirmation`, undefined);
      expect(first).toMatchObject({ status: 200, body: { state: 'confirmed' } });
      // Also a second time, under another key.
      expect((await client.post(`/orders/${messageId}/confirmation`, undefined)).status).toBe(200);
    }
    await client.close();
    expect(await orderOf('confirmed', deviceId)).toHaveLength(2);
  });

  it('that is not confirmed in time is sent again', async () => {
    const { deviceId } = await givenUp();
    await expect.poll(async () => (await orderOf('delivered', deviceId)).length, soon).toBe(2);
    test.clock.advance(3_601_000);
    const times = () => [...tsm.had.values()].filter(({ message }) => message.deviceId === deviceId);
    await expect.poll(() => times().every((order) => order.times === 2), soon).toBe(true);
  });

  it('survives a receiver that fails, hangs and breaks off, and arrives', async () => {
    const moods: Mood[] = ['fails', 'hangs', 'drops', 'takes-and-drops'];
    let turn = 0;
    tsm.mood = () => moods[turn++] ?? 'takes';
    const { deviceId } = await givenUp();
    await expect.poll(async () => (await orderOf('delivered', deviceId)).length, soon).toBe(2);
    expect(ordersAt(deviceId)).toHaveLength(2);
    expect(turn).toBeGreaterThanOrEqual(moods.length + 2);
  });

  it('is never given up: an alarm says so, and it arrives when the TSM is back', async () => {
    tsm.mood = () => 'fails';
    const { deviceId } = await givenUp();
    const tried = async () => (await orderOf('waiting', deviceId)).every(({ attempts }) => attempts > 6);
    await expect.poll(tried, soon).toBe(true);
    expect(test.log()).toContain('ALARM: a message cannot be delivered');
    tsm.mood = () => 'takes';
    await expect.poll(() => ordersAt(deviceId).length, soon).toBe(2);
    await expect.poll(async () => (await orderOf('delivered', deviceId)).length, soon).toBe(2);
    expect(await orderOf('delivered', deviceId)).toMatchObject([{ attempts: 0, lastError: null }, {}]);
  });

  it('waits for no other destination', async () => {
    portal.mood = () => 'hangs';
    const holder = await issueCard(api);
    await setPreferences(api, holder, { occasions: ['held'] });
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    const { deviceId } = await givenUp();
    await expect.poll(() => ordersAt(deviceId).length, { timeout: 2000 }).toBe(2);
  });

  it('is confirmed by a TSM only', async () => {
    refused(await api.post(`/orders/${crypto.randomUUID()}/confirmation`, undefined), 403, 'forbidden');
    const { client } = await addClient(test, 'other-tsm', { roles: ['tsm'] });
    refused(await client.post(`/orders/${crypto.randomUUID()}/confirmation`, undefined), 404, 'not-found');
    await client.close();
  });
});

describe('a notice to the holder', () => {
  const prefer = (holder: Holder, preferences: Parameters<typeof setPreferences>[2]) =>
    setPreferences(api, holder, preferences);
  /** Has an address confirmed by the code that was sent to it. */
  const confirm = async (holder: Holder, address: string) => {
    await expect.poll(() => mailbox.to(address).length, soon).toBe(1);
    const code = /[0-9A-Z]{8}/.exec(mailbox.to(address)[0]?.text ?? '')?.[0] ?? '';
    const path = `/holders/${holder.holderId}/notices/confirmation`;
    expect((await api.post(path, { code })).status).toBe(200);
  };
  const notices = (holder: Holder) =>
    portal.messages().filter((message) => message.holderId === holder.holderId);

  it('sends what the preferences name, through the portal, and nothing else', async () => {
    const holder = await issueCard(api);
    expect((await prefer(holder, { occasions: ['issued', 'revoked'] })).status).toBe(200);
    const { deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'phone-lost', deviceId });
    await api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    await expect.poll(() => notices(holder).length, soon).toBe(6);
    const words = notices(holder).map(({ kind, occasion }) => `${kind} ${occasion}`);
    expect(words.sort()).toEqual([
      'card-authentication revoked',
      'card-signing revoked',
      'phone-authentication issued',
      'phone-authentication revoked',
      'phone-signing issued',
      'phone-signing revoked',
    ]);
    expect(portal.forged).toEqual([]);
  });

  it('comes by mail where an address was given, which is nowhere in the clear', async () => {
    const holder = await issueCard(api);
    await prefer(holder, { occasions: ['held'], mailAddress: 'hanako@example.jp' });
    await confirm(holder, 'hanako@example.jp');
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    await expect.poll(() => mailbox.to('hanako@example.jp').length, soon).toBe(3);
    expect(mailbox.to('hanako@example.jp').at(-1)?.subject).toBe('電子証明書の一時停止のお知らせ');
    expect(notices(holder).map(({ occasion }) => occasion)).toEqual(['wishes-changed']);
    const octets = (await import('node:fs')).readFileSync(join(test.folder, 'record.db-wal'));
    expect(octets.includes('hanako')).toBe(false);
  });

  it('whose mail is refused is given up, and the address stands in no error and no log', async () => {
    const holder = await issueCard(api);
    await prefer(holder, { occasions: ['held'], mailAddress: 'refused@example.jp' });
    const mailDead = async () => (await outbox('dead')).filter(({ type }) => type === 'holder-notice');
    await expect.poll(async () => (await mailDead()).length, soon).toBe(1);
    expect((await mailDead())[0]?.lastError).toMatch(/^the mail server refused: 5\d\d/);
    expect(test.log()).not.toContain('refused@example');
  });

  it('is given up visibly after so many attempts, and can be replayed', async () => {
    portal.mood = () => 'fails';
    const holder = await issueCard(api);
    await prefer(holder, { occasions: ['held'] });
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    const dead = async () =>
      (await outbox('dead')).filter(({ lastError }) => lastError === 'answered HTTP 503');
    await expect.poll(async () => (await dead()).length, soon).toBe(2);
    portal.mood = () => 'takes';
    for (const { messageId } of await dead())
      expect((await api.post(`/outbox/${messageId}/replay`, undefined)).status).toBe(200);
    await expect.poll(() => notices(holder).length, soon).toBe(2);
    await expect.poll(async () => (await dead()).length, soon).toBe(0);
    const [delivered] = await outbox('delivered');
    refused(await api.post(`/outbox/${delivered?.messageId}/replay`, undefined), 409, 'illegal-transition');
  });

  it('ends where the preference is withdrawn', async () => {
    const holder = await issueCard(api);
    await prefer(holder, { occasions: ['held'] });
    await prefer(holder, { occasions: [] });
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    await expect.poll(() => notices(holder).length, soon).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(notices(holder).map(({ occasion }) => occasion)).toEqual(['wishes-changed']);
  });
});

describe('a notice to a verifier', () => {
  it('receives the changes of a certificate it watches, and never whose it is', async () => {
    const holder = await issueCard(api);
    const { client } = await addClient(test, 'bank', { roles: ['verifier'] });
    const [signing] = holder.card.certificates;
    const path = `/certificates/${signing?.authority}/${signing?.serialNumber}`;
    const receipt = signReceipt(
      { privateKey: holder.cardSigning.privateKey, certificate: derOf(pemOf(holder.card, 'card-signing')) },
      'bank',
    );
    expect((await client.post(`${path}/watches`, { receipt, reference: 'id 1' })).status).toBe(200);
    await api.post('/events', { event: 'moved', holderId: holder.holderId });
    await expect.poll(() => bank.messages().length, soon).toBe(1);
    expect(bank.messages()).toMatchObject([
      {
        type: 'verifier-notice',
        occasion: 'revoked',
        reason: 'affiliationChanged',
        reference: 'id 1',
        serialNumber: signing?.serialNumber,
      },
    ]);
    expect(JSON.stringify(bank.messages())).not.toContain(holder.holderId);
    await client.close();
  });

  it('of a use goes to the holder who chose it', async () => {
    const holder = await issueCard(api);
    await setPreferences(api, holder, { occasions: ['used'] });
    const { client } = await addClient(test, 'stranger', { roles: ['verifier'] });
    const [signing] = holder.card.certificates;
    const path = `/certificates/${signing?.authority}/${signing?.serialNumber}/uses`;
    refused(await client.post(path, undefined), 403, 'forbidden');
    await client.close();
    const named = namedClient(test.folder, test.service.addresses.api, 'bank');
    expect((await named.post(path, undefined)).status).toBe(200);
    await named.close();
    const notices = () => portal.messages().filter(({ holderId }) => holderId === holder.holderId);
    await expect.poll(() => notices().length, soon).toBe(1);
    expect(notices()).toMatchObject([{ occasion: 'used', kind: 'card-signing', verifier: 'bank' }]);
  });
});

describe('the outbox of a service that is killed', () => {
  it('loses nothing: what was acknowledged is delivered, by the next process at the latest', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'warifu-outbox-'));
    const receiver = await Receiver.start();
    const folder = join(scratch, 'data');
    const notices = { tsm: receiver.url, timeout: '500ms', retryFirst: '50ms', retryMost: '200ms' };
    const addresses = await configure(folder, {
      notices,
      activation: { phone: 'at-once' },
      crl: { workers: 1 },
    });
    let service: ServiceProcess | undefined;
    const devices: string[] = [];
    try {
      for (let life = 0; life < 3; life++) {
        service = await startProcess(folder, addresses);
        receiver.trust(folder);
        const client = namedClient(folder, addresses.api, 'first');
        const holder = await issueCard(client, { holderId: `k-${life}`, cardId: `k-${life}` });
        // What a name of the harness has given out belongs to another record.
        const { deviceId } = await issuePhone(client, { ...holder, holderId: `k-${life}` });
        let turn = 0;
        receiver.mood = () => (turn++ % 2 === 0 ? 'drops' : 'takes-and-drops');
        expect((await client.post('/events', { event: 'phone-given-up', deviceId })).status).toBe(200);
        devices.push(deviceId);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 300));
        service.child.kill('SIGKILL');
        await service.exited;
        await client.close();
      }
      receiver.mood = () => 'takes';
      service = await startProcess(folder, addresses);
      const delivered = () =>
        receiver
          .messages()
          .map(({ deviceId }) => deviceId)
          .sort();
      await expect.poll(delivered, soon).toEqual(devices.flatMap((device) => [device, device]).sort());
      const client = namedClient(folder, addresses.api, 'first');
      const left = async () =>
        (await client.get<{ messages: Shown[] }>('/outbox?state=waiting')).body.messages;
      await expect.poll(left, soon).toEqual([]);
      await client.close();
      expect(receiver.forged).toEqual([]);
      await service.stop();
    } finally {
      service?.child.kill('SIGKILL');
      await receiver.stop();
      rmSync(scratch, { recursive: true, force: true });
    }
  });
});

describe('an outbox of which it cannot be written what became of some messages', () => {
  it('delivers all the others, and those once more after a while', async () => {
    const message = (n: number): Message => ({
      messageId: `m${String(n).padStart(3, '0')}`,
      type: 'remote-deletion',
      destination: 'tsm',
      holderId: 'h',
      mediumId: 'phone:p',
      certificate: { authority: 'signing-1', epoch: 1, position: n },
      kind: 'phone-signing',
      occasion: 'ceased',
      reason: null,
      createdMs: 0,
      state: 'waiting',
      attempts: 0,
      dueMs: 0,
      lastError: null,
      deliveredMs: null,
      confirmedMs: null,
      instance: null,
      verifier: null,
      address: null,
    });
    const due = new Map(Array.from({ length: 120 }, (_, n) => [message(n).messageId, message(n)]));
    // More than may be under way at once, and in front of all others.
    const unwritable = new Set([...due.keys()].slice(0, 50));
    const sent = new Map<string, number>();
    const store = {
      due: async (_destination: string, limit: number) => [...due.values()].slice(0, limit),
      settle: async ({ messageId }: { messageId: string }) => {
        if (unwritable.has(messageId)) throw new Error('the row is damaged');
        due.delete(messageId);
      },
    } as unknown as OutboxStore;
    const delivery = {
      destinations: async () => ['tsm'],
      deliver: async ({ messageId }: Message) => void sent.set(messageId, (sent.get(messageId) ?? 0) + 1),
      abort: () => undefined,
      close: async () => undefined,
    } as unknown as Delivery;
    let nowMs = 0;
    const clock = { wallMs: () => nowMs, monotonicMs: () => nowMs };
    const outbox = new Outbox({
      nodes: onlyNode,
      store,
      delivery,
      config: parseConfig({}).notices,
      clock,
      logger: pino({ level: 'silent' }),
    });
    await until('all others are delivered', async () => due.size === unwritable.size);
    expect(Math.max(...sent.values())).toBe(1);
    nowMs += 31_000;
    await until('they are sent again', async () => [...unwritable].every((id) => (sent.get(id) ?? 0) > 1));
    await outbox.stop();
  });
});
