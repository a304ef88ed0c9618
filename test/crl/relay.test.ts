import { pino } from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import type { Publication, Publications } from '../../core/model/publication.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { PublishedFolder, type PublishedShard, publishedIn } from '../../crl/folder/published.ts';
import { Relay } from '../../crl/publish/relay.ts';
import { removeScratch, scratch, startTestService } from '../support/harness.ts';

// CRLs that another node published.

const test = await startTestService();
const source = new PublishedFolder({ folder: `${test.folder}/published`, owner: 'reader', leaseMs: 1000 });
const path = 'crl/authority/signing-1.crl';
const genuine = source.publication(path) as Publication;
const certificate = test.service.ca.authorities.byName('signing-1').certificate;

afterAll(async () => {
  source.close();
  await test.close();
  removeScratch();
});

const authority = [...source.all()].find((shard) => shard.path === path) as PublishedShard;
const { distributionPointName } = (
  await test.service.ca.store.feed
    .stream(undefined, new AbortController().signal)
    [Symbol.asyncIterator]()
    .next()
).value.events.find(
  (event: { type: string; path?: string }) => event.type === 'shard' && event.path === path,
);

/** A node that has nothing, and what it is given. */
function relayOf(publications: Publication[], change: Partial<Publications> = {}) {
  const lines: string[] = [];
  const place = scratch();
  const folder = new PublishedFolder({ folder: place, owner: 'reader', leaseMs: 1000 });
  const adopted: PublishedShard[] = [];
  const relay = new Relay({
    publications: {
      isPublisher: () => false,
      lateBy: 0,
      put: async () => false,
      giveUp: () => undefined,
      after: async (after) =>
        publications
          .map(({ path: at, number }, i) => ({ path: at, number, change: i + 1 }))
          .filter((each) => each.change > after),
      get: async (wanted) => publications.findLast((each) => each.path === wanted),
      numbers: async () => new Map(publications.map(({ path: at, number }) => [at, number])),
      ...change,
    },
    folder: place,
    shardOf: (wanted) =>
      wanted === path
        ? { certificate, distributionPointName: Buffer.from(distributionPointName, 'base64') }
        : undefined,
    adopted: (shard) => adopted.push(shard),
    clock: systemClock,
    logger: pino({ base: null }, { write: (line) => void lines.push(line) }),
  });
  const close = async (): Promise<void> => {
    await relay.close();
    folder.close();
  };
  return { relay, folder, adopted, log: () => lines.join(''), close };
}

describe('a node that does not publish', () => {
  it('has what another published, octet for octet', async () => {
    const { relay, folder, adopted, close } = relayOf([genuine]);
    await relay.look();
    expect(folder.publication(path)).toEqual(genuine);
    expect(adopted).toEqual([authority]);
    await close();
  });

  it.each(['complete', 'delta'] as const)(
    'keeps a %s CRL out that its authority did not sign, as an alarm',
    async (which) => {
      const octets = Buffer.from(genuine[which] ?? genuine.complete);
      octets.writeUInt8(octets.readUInt8(octets.length - 1) ^ 1, octets.length - 1);
      const { relay, folder, log, close } = relayOf([{ ...genuine, [which]: octets }]);
      await relay.look();
      expect(folder.publication(path)).toBeUndefined();
      expect(log()).toContain('ALARM: a CRL that another node published is not what its authority signed');
      await close();
    },
  );

  it('goes back to no earlier CRL', async () => {
    const earlier = {
      ...genuine,
      number: genuine.number - 1,
      described: JSON.stringify({ ...authority, number: genuine.number - 1 }),
    };
    const given = [genuine];
    const { relay, folder, close } = relayOf(given);
    await relay.look();
    given.push(earlier);
    await relay.look();
    expect(folder.publication(path)?.number).toBe(genuine.number);
    await close();
  });

  const described = (change: object): string => JSON.stringify({ ...authority, ...change });
  it.each([
    ['described as nothing', { described: '{}' }],
    ['described as no JSON', { described: '{' }],
    ['of another path', { described: described({ path: 'crl/other.crl' }) }],
    [
      'of a number that is none of it',
      {
        number: genuine.number + 5,
        described: described({
          number: genuine.number + 5,
          complete: { ...authority.complete, number: genuine.number + 5 },
        }),
      },
    ],
    ['without a cursor', { described: described({ cursor: null }) }],
    [
      'with a time that is none',
      { described: described({ complete: { ...authority.complete, nextUpdateMs: 'x' } }) },
    ],
  ])('does not believe what is %s', async (_what, change) => {
    const { relay, folder, log, close } = relayOf([{ ...genuine, ...change }]);
    await relay.look();
    await relay.look();
    expect(folder.publication(path)).toBeUndefined();
    expect(log().match(/ALARM: a CRL that another node published/g)).toHaveLength(1);
    await close();
  });

  it('passes over a number that no clock reaches', async () => {
    const number = Number.MAX_SAFE_INTEGER;
    const { relay, folder, close } = relayOf([{ ...genuine, number }, genuine]);
    await relay.look();
    expect(folder.publication(path)?.number).toBe(genuine.number);
    await close();
  });

  it('waits for a shard that it has not heard of, and says once that others cannot be asked', async () => {
    const unknown = { ...genuine, path: 'crl/authority/other.crl' };
    const waiting = relayOf([unknown, genuine]);
    await waiting.relay.look();
    // What is behind it does not wait.
    expect(waiting.adopted).toEqual([authority]);
    await waiting.close();
    const gone = relayOf([], { after: () => Promise.reject(new Error('no way')) });
    for (let i = 0; i < 3; i++) await gone.relay.look();
    expect(gone.log().match(/CRLs of other nodes cannot be fetched/g)).toHaveLength(1);
    await gone.close();
  });
});

it('gives no file that is none of a shard, whatever path is asked for', async () => {
  const published = publishedIn(() => source);
  for (const wanted of ['../warifu.json', '/etc/passwd', 'crl/index.json', ''])
    expect(await published.get(wanted)).toBeUndefined();
});
