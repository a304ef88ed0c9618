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
  const folder = new PublishedFolder({ folder: scratch(), owner: 'relay', leaseMs: 1000 });
  const adopted: PublishedShard[] = [];
  const relay = new Relay({
    publications: {
      isPublisher: () => false,
      lateBy: 0,
      put: async () => false,
      after: async (after) =>
        publications
          .map(({ path: at, number }, i) => ({ path: at, number, change: i + 1 }))
          .filter((each) => each.change > after),
      get: async (wanted) => publications.findLast((each) => each.path === wanted),
      numbers: async () => new Map(publications.map(({ path: at, number }) => [at, number])),
      ...change,
    },
    folder,
    shardOf: (wanted) =>
      wanted === path
        ? { certificate, distributionPointName: Buffer.from(distributionPointName, 'base64') }
        : undefined,
    adopted: (shard) => adopted.push(shard),
    clock: systemClock,
    logger: pino({ base: null }, { write: (line) => void lines.push(line) }),
  });
  return { relay, folder, adopted, log: () => lines.join('') };
}

describe('a node that does not publish', () => {
  it('has what another published, octet for octet', async () => {
    const { relay, folder, adopted } = relayOf([genuine]);
    await relay.look();
    expect(folder.publication(path)).toEqual(genuine);
    expect(adopted).toEqual([authority]);
    folder.close();
  });

  it.each(['complete', 'delta'] as const)(
    'keeps a %s CRL out that its authority did not sign, as an alarm',
    async (which) => {
      const octets = Buffer.from(genuine[which] ?? genuine.complete);
      octets.writeUInt8(octets.readUInt8(octets.length - 1) ^ 1, octets.length - 1);
      const { relay, folder, log } = relayOf([{ ...genuine, [which]: octets }]);
      await relay.look();
      expect(folder.publication(path)).toBeUndefined();
      expect(log()).toContain('ALARM: a CRL that another node published is not what its authority signed');
      folder.close();
    },
  );

  it('goes back to no earlier CRL', async () => {
    const earlier = {
      ...genuine,
      number: genuine.number - 1,
      described: JSON.stringify({ ...authority, number: genuine.number - 1 }),
    };
    const given = [genuine];
    const { relay, folder } = relayOf(given);
    await relay.look();
    given.push(earlier);
    await relay.look();
    expect(folder.publication(path)?.number).toBe(genuine.number);
    folder.close();
  });

  it('waits for a shard that it has not heard of, and says once that others cannot be asked', async () => {
    const unknown = { ...genuine, path: 'crl/authority/other.crl' };
    const waiting = relayOf([unknown, genuine]);
    await waiting.relay.look();
    expect(waiting.adopted).toEqual([]);
    waiting.folder.close();
    const gone = relayOf([], { after: () => Promise.reject(new Error('no way')) });
    for (let i = 0; i < 3; i++) await gone.relay.look();
    expect(gone.log().match(/CRLs of other nodes cannot be fetched/g)).toHaveLength(1);
    gone.folder.close();
  });
});

it('gives no file that is none of a shard, whatever path is asked for', async () => {
  const published = publishedIn(source);
  for (const wanted of ['../warifu.json', '/etc/passwd', 'crl/index.json', ''])
    expect(await published.get(wanted)).toBeUndefined();
});
