import { readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { Agent, request } from 'undici';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { siteOf } from '../../ca/api/lanes.ts';
import type { CaClient } from '../../ca/client/client.ts';
import {
  addClient,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { expectRefusal } from '../support/holder-rules.ts';

// What one caller may have of the API at a time: no one keeps the others waiting, and what takes trust away waits for no one.

let test: TestService;
let opened: TestService | undefined;
const start = async (limits: object) => {
  test = await startTestService({ overrides: { limits } as never });
  opened = test;
};
afterEach(async () => {
  await opened?.close();
  opened = undefined;
});
afterAll(removeScratch);

/** Has look-ups of holders hang until the function that it gives is called. */
function holdLookups(): { readonly begun: () => number; readonly go: () => void } {
  const { store } = test.service.ca;
  const holder = store.holder.bind(store);
  const gate = Promise.withResolvers<void>();
  let begun = 0;
  Object.assign(store, {
    holder: async (holderId: string) => {
      begun += 1;
      await gate.promise;
      return holder(holderId);
    },
  });
  return { begun: () => begun, go: () => gate.resolve() };
}

const look = (by: CaClient) => by.get<{ title: string }>('/holders/no-one');

describe('a client', () => {
  it('has so many requests at once; more wait, then more are refused, and others have their turns meanwhile', async () => {
    await start({ atOnce: { client: 2, all: 3 }, waiting: { client: 2, all: 10 } });
    const busy = await addClient(test, 'busy', { roles: ['reader'] });
    const other = await addClient(test, 'other', { roles: ['reader'] });
    const { begun, go } = holdLookups();
    const first = Array.from({ length: 4 }, () => look(busy.client));
    await expect.poll(begun).toBe(2);
    const refused = await look(busy.client);
    expectRefusal(refused, 429, 'rate-exceeded', /wait already/);
    const others = look(other.client);
    await expect.poll(begun).toBe(3);
    go();
    expect((await Promise.all([...first, others])).map(({ status }) => status)).toEqual(Array(5).fill(404));
    expect((await look(busy.client)).status).toBe(404);
  });

  it('that is gone leaves its turn to others', async () => {
    await start({ atOnce: { client: 1, all: 1 } });
    const { address, tls } = ofFirst();
    const agent = new Agent({ connect: { key: tls.key, cert: tls.cert, ca: tls.ca } as object });
    const { begun, go } = holdLookups();
    const hanging = request(`${address}/v1/holders/no-one`, { dispatcher: agent }).catch(() => 'gone');
    await expect.poll(begun).toBe(1);
    await agent.destroy();
    expect(await hanging).toBe('gone');
    // Before what it asked for is over.
    expect((await test.api.get('/switches')).status).toBe(200);
    go();
  });

  it('sends so many requests a second; those beyond wait, and are refused late', async () => {
    await start({ requestsPerSecond: 5 });
    const { client } = await addClient(test, 'fast', { roles: ['reader'] });
    const startMs = performance.now();
    const answers = await Promise.all(Array.from({ length: 25 }, () => look(client)));
    const count = (status: number) => answers.filter((answer) => answer.status === status).length;
    expect([count(404), count(429)]).toEqual([15, 10]);
    expect(performance.now() - startMs).toBeGreaterThan(1900);
  });
});

describe('what takes trust away', () => {
  it('waits neither for who fills all other lanes, nor for its own rate', async () => {
    await start({ atOnce: { client: 1, all: 1 }, requestsPerSecond: 2 });
    const revoker = await addClient(test, 'revoker', { roles: ['revoker'] });
    const holder = await issueCard(test.api);
    const reader = await addClient(test, 'reader', { roles: ['reader'] });
    const { begun, go } = holdLookups();
    const hanging = look(reader.client);
    await expect.poll(begun).toBe(1);
    for (const event of ['card-lost', 'card-lost', 'card-lost', 'card-lost', 'card-returned'])
      expect((await revoker.client.post('/events', { event, cardId: holder.cardId })).status).toBe(200);
    go();
    await hanging;
  });
});

describe('a client that does not read', () => {
  it('keeps no turn: others are served while its answers wait for it', async () => {
    await start({ atOnce: { client: 1, all: 1 } });
    const { client } = await addClient(test, 'reader', { roles: ['reader'] });
    await test.api.post('/desks', { deskCode: 'FACTORY01', kind: 'factory' });
    const { desks } = test.service.ca;
    const page = await desks.list(null, 1);
    let listed = 0;
    // More than sockets take: some of the answers stay where they are.
    Object.assign(desks, {
      list: async () => {
        listed += 1;
        return Array.from({ length: 4000 }, () => page[0]);
      },
    });
    const { tls } = ofFirst();
    const silent = connectTls(tls);
    await new Promise((resolve) => silent.once('secureConnect', resolve));
    silent.pause();
    silent.write('GET /v1/desks HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(40));
    // Those that one connection may have without an answer, and no more.
    await expect.poll(() => listed, { timeout: 10_000 }).toBe(16);
    expect((await look(client)).status).toBe(404);
    silent.destroy();
  });
});

describe('a request', () => {
  it('that does not arrive takes no turn', async () => {
    await start({ atOnce: { client: 1, all: 1 } });
    const { tls } = ofFirst();
    const slow = connectTls(tls);
    await new Promise((resolve) => slow.once('secureConnect', resolve));
    slow.write(
      'POST /v1/desks HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
    );
    expect((await look(test.api)).status).toBe(404);
    slow.destroy();
  });

  it('that reads much of the record is worked on alone, one of a client at a time', async () => {
    await start({ scansAtOnce: { client: 1, all: 1 }, waiting: { client: 1, all: 1 } });
    const { store } = test.service.ca;
    const [endingBefore, gate] = [store.endingBefore.bind(store), Promise.withResolvers<void>()];
    Object.assign(store, {
      endingBefore: async (...args: Parameters<typeof endingBefore>) => {
        await gate.promise;
        return endingBefore(...args);
      },
    });
    const statuses: number[] = [];
    const asked = Array.from({ length: 5 }, async () =>
      statuses.push((await test.api.get('/renewals?days=99')).status),
    );
    await expect.poll(() => statuses).toEqual([429, 429, 429]);
    gate.resolve();
    await Promise.all(asked);
    expect(statuses).toEqual([429, 429, 429, 200, 200]);
    expect((await test.api.get('/renewals?days=99')).status).toBe(200);
  });
});

/** Where the API is, and how its first client connects. */
function ofFirst(): { readonly address: string; readonly tls: ConnectionOptions } {
  const { folder, service } = test;
  const { api: address } = service.addresses;
  const file = (name: string) => readFileSync(join(folder, name), 'utf8');
  const { hostname, port } = new URL(address);
  const keys = { key: file('clients/first.key'), cert: file('clients/first.pem') };
  return { address, tls: { host: hostname, port: Number(port), ...keys, ca: file('tls/operations-ca.pem') } };
}

describe('an address', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '::ffff:192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
    ['2001:db8:1:2::6', '2001:db8:1:2'],
    ['2001:db8::6', '2001:db8'],
  ])('%s is counted as %s: of IPv6 a site has a /64', (remoteAddress, site) => {
    expect(siteOf({ remoteAddress })).toBe(site);
  });

  /** How many of some connections are still open after a moment. */
  async function openOf(count: number, localAddress: string): Promise<number> {
    const { tls } = ofFirst();
    const { host = '', port = 0 } = tls;
    const sockets = Array.from({ length: count }, () => connectTcp({ host, port, localAddress }));
    for (const socket of sockets) socket.on('error', () => undefined);
    await new Promise((resolve) => setTimeout(resolve, 300));
    // A service that had no turn meanwhile has refused none yet: one that answers behind them has.
    await look(test.api);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const open = sockets.filter(({ readyState }) => readyState === 'open').length;
    for (const socket of sockets) socket.destroy();
    return open;
  }

  it('has so many connections, which are closed before their handshake; another has its own', async () => {
    await start({ connections: { perAddress: 5 } });
    expect(await openOf(20, '127.0.0.2')).toBe(5);
    expect(await openOf(3, '127.0.0.3')).toBe(3);
    // Those that are gone count no more.
    expect(await openOf(5, '127.0.0.2')).toBe(5);
    expect((await look(test.api)).status).toBe(404);
  });

  it('makes so many connections a second', async () => {
    await start({ connections: { newPerSecond: 1, newAtOnce: 4 } });
    expect(await openOf(20, '127.0.0.2')).toBe(4);
    expect(await openOf(20, '127.0.0.2')).toBeLessThan(2);
    expect(await openOf(3, '127.0.0.3')).toBe(3);
  });

  it('that shows no certificate takes no place of a client: the oldest such connection makes room', async () => {
    await start({ connections: { handshakes: 6 } });
    const { tls } = ofFirst();
    const strangers = Array.from({ length: 20 }, () =>
      connectTcp({ host: tls.host ?? '', port: tls.port ?? 0, localAddress: '127.0.0.2' }),
    );
    for (const socket of strangers) socket.on('error', () => undefined);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(strangers.filter(({ readyState }) => readyState === 'open')).toHaveLength(6);
    expect((await look(test.api)).status).toBe(404);
    for (const socket of strangers) socket.destroy();
  });
});
