import { spawn } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { type Logger, pino } from 'pino';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient } from '../ca/client/client.ts';
import { unsignedInteger } from '../core/asn1/der-writer.ts';
import { SerialCipher } from '../core/crypto/serial.ts';
import type { FeedBatch, FeedEvent, StatusEvent } from '../core/feed/feed.ts';
import { FeedJournal } from '../core/feed/feed-journal.ts';
import { journalContent } from '../core/feed/journal-content.ts';
import { RemoteFeed } from '../core/feed/remote-feed.ts';
import { statusIn } from '../core/model/revocation.ts';
import { hex } from '../core/runtime/bytes.ts';
import { gatherListed } from '../crl/encode/bucket.ts';
import { serialsOf } from '../crl/encode/entries.ts';
import { EntryReader, EntryStore } from '../crl/entries/entry-store.ts';
import { CrlFollower } from '../crl/entries/follower.ts';
import { startCrlNode } from '../crl/node/service.ts';
import { StatusIndex } from '../ocsp/index/status-index.ts';
import { startOcspNode } from '../ocsp/node/service.ts';
import { latestStatuses } from '../store/restore/reconcile.ts';
import { askOcsp, derOf, fetchCrl, listed, ocspRequest, pemOf, until } from './support/actors.ts';
import {
  addClient,
  dataFolder,
  fileOf,
  freePort,
  issueCard,
  ManualClock,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from './support/harness.ts';

let test: TestService;
let follower: CaClient;
let ca: Uint8Array;
const pending: (() => Promise<void>)[] = [];

beforeAll(async () => {
  test = await startTestService({ folder: await dataFolder({ ocsp: { feedLagMax: '3s' } }) });
  ({ client: follower } = await addClient(test, 'node', { roles: ['follower', 'ocsp'] }));
  ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
});
afterAll(async () => {
  for (const close of pending) await close();
  await follower.close();
  await test.close();
  removeScratch();
});

/** A folder for a node of its own: TLS client, PIN, delegation, and no access to the record. */
async function nodeFolder(
  overrides: { url?: string; feedLagMax?: string } = {},
): Promise<{ folder: string; port: number }> {
  const folder = join(scratch(), 'node');
  mkdirSync(join(folder, 'secrets'), { recursive: true });
  const { pkcs11 } = test.service.ca.config;
  for (const name of ['node.key', 'node.pem'])
    copyFileSync(join(test.folder, 'clients', name), join(folder, name));
  copyFileSync(join(test.folder, 'tls', 'operations-ca.pem'), join(folder, 'ca.pem'));
  copyFileSync(join(test.folder, 'ocsp', 'responders.json'), join(folder, 'responders.json'));
  for (const { label, pinFile } of [pkcs11.caToken, pkcs11.ocspToken])
    copyFileSync(join(test.folder, pinFile), join(folder, 'secrets', `${label}.pin`));
  const port = await freePort();
  const token = ({ label }: { label: string }) => ({ label, pinFile: `secrets/${label}.pin` });
  const config = {
    feed: {
      url: overrides.url ?? test.service.addresses.api,
      key: 'node.key',
      cert: 'node.pem',
      ca: 'ca.pem',
    },
    ocsp: { port, feedLagMax: overrides.feedLagMax ?? '3s', signedAnswersFor: '0' },
    crl: { port },
    pkcs11: { signingThreads: 1, caToken: token(pkcs11.caToken), ocspToken: token(pkcs11.ocspToken) },
  };
  writeFileSync(join(folder, 'node.json'), JSON.stringify(config));
  return { folder, port };
}

function recordedLog(): { logger: Logger; text: () => string } {
  const lines: string[] = [];
  return {
    logger: pino({ base: null }, { write: (line) => void lines.push(line) }),
    text: () => lines.join(''),
  };
}

/** Status of a certificate in a word; of an unsigned response, its error. */
async function ask(address: string, certificate: Uint8Array): Promise<string> {
  const response = await askOcsp(address, await ocspRequest(certificate, ca));
  if (response.length === 5) return response[4] === 3 ? 'tryLater' : `error ${response[4]}`;
  return (
    /Cert Status: (\w+)/.exec(openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text'))?.[1] ??
    ''
  );
}
const untilSays = (address: string, certificate: Uint8Array, wanted: string) =>
  until(`${address} says ${wanted}`, async () => (await ask(address, certificate)) === wanted);

const key = Buffer.alloc(16, 7);
const feed = { epochKey: async () => key };
const serial = (position: number) => new SerialCipher(1, key).encrypt(position);
const states = ['good', 'held', 'good', 'revoked'] as const;

/** The history of three certificates: issued, held, released, revoked at last; the third is never touched. */
const history: FeedEvent[] = [
  { type: 'epoch', authority: 'signing-1', epoch: 1 },
  { type: 'shard', shard: 's', authority: 'signing-1', distributionPointName: '', path: 'crl/p.crl' },
  ...[0, 1, 2].flatMap((position) =>
    states.slice(0, [4, 3, 1][position]).map(
      (state, i): FeedEvent => ({
        type: 'status',
        authority: 'signing-1',
        epoch: 1,
        position,
        change: 'issued',
        version: i + 1,
        ...statusIn({
          state,
          reason: state === 'held' ? 'certificateHold' : state === 'revoked' ? 'unspecified' : null,
          revokedMs: state === 'good' ? null : i,
          invalidityMs: null,
        }),
        notAfterMs: 10 ** 13,
        shard: 's',
      }),
    ),
  ),
];
const batch = (events: FeedEvent[]): FeedBatch => ({
  events,
  cursor: { incarnation: 'i', positions: {} },
  watermarkMs: 1,
});

describe('an OCSP node of its own', () => {
  it('follows the CA over mutual TLS, in a process and folder of its own', async () => {
    const { folder, port } = await nodeFolder();
    const main = new URL('../ocsp/main.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [main, '--data', folder], { stdio: ['ignore', 'pipe', 'pipe'] });
    const exited = new Promise<number | string>((resolve) => {
      child.once('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const address = `http://127.0.0.1:${port}`;
    const holder = await issueCard(test.api);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    await untilSays(address, certificate, 'good');
    await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    await untilSays(address, certificate, 'revoked');
    child.kill('SIGTERM');
    expect(await exited).toBe(0);
    // No key of a serial number's epoch, and nothing personal, is on its disk.
    expect(readFileSync(join(folder, 'journal.ndjson'), 'utf8')).not.toMatch(/holder|花子|"key"/);
  });

  it('goes on from its journal after a restart, also from one whose last line was cut short', async () => {
    const { folder, port } = await nodeFolder();
    const { logger } = recordedLog();
    const start = () => startOcspNode({ folder, clock: test.clock, logger });
    const holder = await issueCard(test.api);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    const address = `http://127.0.0.1:${port}`;
    const first = await start();
    await untilSays(address, certificate, 'good');
    await first.close();
    const journal = join(folder, 'journal.ndjson');
    const whole = readFileSync(journal, 'utf8');
    await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    writeFileSync(journal, `${whole}{"events":[{"type":"sta`);
    const second = await start();
    await untilSays(address, certificate, 'revoked');
    await second.close();
    expect(readFileSync(journal, 'utf8').startsWith(whole)).toBe(true);
    for (const line of readFileSync(journal, 'utf8').trim().split('\n')) JSON.parse(line);
  });

  it('says tryLater, never a fresh good, while it cannot reach the CA', async () => {
    const { folder, port } = await nodeFolder();
    const clock = new ManualClock();
    const { logger } = recordedLog();
    const node = await startOcspNode({ folder, clock, logger });
    pending.push(() => node.close());
    const holder = await issueCard(test.api);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    const address = `http://127.0.0.1:${port}`;
    await untilSays(address, certificate, 'good');
    clock.advance(10_000);
    expect(await ask(address, certificate)).toBe('tryLater');
  });

  it('gets its own delegation from the CA, and a new one before that ends, without a restart', async () => {
    const { folder, port } = await nodeFolder();
    const file = join(folder, 'responders.json');
    rmSync(file);
    const clock = new ManualClock();
    const { logger } = recordedLog();
    const node = await startOcspNode({ folder, clock, logger, upkeepMs: 50 });
    pending.push(() => node.close());
    const address = `http://127.0.0.1:${port}`;
    await untilSays(address, ca, 'good');
    const first = readFileSync(file, 'utf8');
    const rows = JSON.parse(first) as { authority: string; suite: string; certificate: string }[];
    expect(rows.map(({ authority, suite }) => `${authority} ${suite}`).sort()).toEqual([
      'authentication-1 p256-sha256',
      'authentication-1 rsa2048-sha256',
      'signing-1 p256-sha256',
      'signing-1 rsa2048-sha256',
    ]);
    // On record like every certificate: its status is known.
    await untilSays(
      address,
      Buffer.from(rows.find(({ authority }) => authority === 'signing-1')?.certificate ?? '', 'base64'),
      'good',
    );
    clock.advance(61 * 86_400_000);
    await until('the delegation is new', async () => readFileSync(file, 'utf8') !== first);
    clock.step(-61 * 86_400_000);
    await untilSays(address, ca, 'good');
  });

  it('says tryLater before it has received anything from the CA', async () => {
    const { folder, port } = await nodeFolder({ url: `https://127.0.0.1:${await freePort()}` });
    const { logger, text } = recordedLog();
    const node = await startOcspNode({ folder, clock: new ManualClock(), logger });
    expect(await ask(`http://127.0.0.1:${port}`, ca)).toBe('tryLater');
    await until('it has tried', async () => text().includes('cannot be asked yet'));
    await node.close();
  });

  it('begins with the snapshot of the CA’s own responder, follows from there, and saves it as its own', async () => {
    const kept = join(test.folder, 'ocsp', 'index.snapshot');
    const before = await issueCard(test.api);
    expect(existsSync(kept)).toBe(true);
    const { folder } = await nodeFolder();
    const { logger, text } = recordedLog();
    const node = await startOcspNode({ folder, clock: new ManualClock(), logger });
    await untilSays(node.address, derOf(pemOf(before.card, 'card-signing')), 'good');
    const since = await issueCard(test.api);
    await untilSays(node.address, derOf(pemOf(since.card, 'card-signing')), 'good');
    await until('it has its own', async () => existsSync(join(folder, 'index.snapshot')));
    // What it received was not the record's whole history.
    const { spans } = await journalContent(join(folder, 'journal.ndjson'), {
      seal: null,
      acceptUnproven: true,
    });
    expect(spans[0]?.from).toBeGreaterThan(0);
    expect(existsSync(join(folder, 'index.snapshot.received'))).toBe(false);
    expect(text()).not.toContain('rebuilt');
    await node.close();
    const again = await startOcspNode({ folder, clock: new ManualClock(), logger });
    await untilSays(again.address, derOf(pemOf(before.card, 'card-signing')), 'good');
    await again.close();
  });

  it('follows from the first event where the snapshot is damaged, or there is none', async () => {
    const kept = join(test.folder, 'ocsp', 'index.snapshot');
    const holder = await issueCard(test.api);
    const whole = readFileSync(kept);
    for (const damage of [
      () => writeFileSync(kept, whole.subarray(0, whole.length - 40)),
      () => writeFileSync(kept, Buffer.concat([whole.subarray(0, 60), Buffer.from('x'), whole.subarray(61)])),
      () => rmSync(kept),
    ]) {
      damage();
      const { folder } = await nodeFolder();
      const node = await startOcspNode({ folder, clock: new ManualClock(), logger: recordedLog().logger });
      await untilSays(node.address, derOf(pemOf(holder.card, 'card-signing')), 'good');
      const { spans } = await journalContent(join(folder, 'journal.ndjson'), {
        seal: null,
        acceptUnproven: true,
      });
      expect(spans[0]?.from).toBe(0);
      await node.close();
    }
    writeFileSync(kept, whole);
  });

  it('is given no epoch key in a snapshot, and no one but a follower is given one', async () => {
    expect((await test.api.get('/feed/snapshot')).status).toBe(403);
    const epochs = await Promise.all(
      ['signing-1', 'authentication-1'].map((name) =>
        follower.get<{ key: string }>(`/feed/epochs/${name}/1`),
      ),
    );
    const octets = readFileSync(join(test.folder, 'ocsp', 'index.snapshot'));
    for (const { body } of epochs) {
      expect(octets.includes(Buffer.from(body.key, 'base64'))).toBe(false);
      expect(octets.includes(body.key)).toBe(false);
    }
  });

  it('stops and alarms at a record of another incarnation', async () => {
    const { folder } = await nodeFolder();
    const line = { events: [], cursor: { incarnation: 'another', positions: { n1: 1 } } };
    writeFileSync(join(folder, 'journal.ndjson'), `${JSON.stringify(line)}\n`);
    const { logger, text } = recordedLog();
    const node = await startOcspNode({ folder, clock: new ManualClock(), logger });
    await until('it alarms', async () => text().includes('ALARM'));
    await node.close();
  });
});

describe('an OCSP node that confirms what it has applied', () => {
  const process = async (overrides: Parameters<typeof nodeFolder>[0] = {}) => {
    const { folder, port } = await nodeFolder(overrides);
    const main = new URL('../ocsp/main.ts', import.meta.url).pathname;
    const child = spawn(globalThis.process.execPath, [main, '--data', folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    let log = '';
    const listens = new Promise((resolve) => child.stdout.once('data', resolve));
    for (const output of [child.stdout, child.stderr])
      output.on('data', (text: Buffer) => {
        log += text.toString();
      });
    await listens;
    return {
      address: `http://127.0.0.1:${port}`,
      child,
      log: () => log,
      stop: async (signal: NodeJS.Signals) => {
        child.kill(signal);
        await exited;
      },
    };
  };
  const revoke = ({ cardId }: { cardId: string }) =>
    test.api.post('/events', { event: 'card-returned', cardId });

  it('says good of nothing any more of which the CA has answered that it is revoked', async () => {
    const node = await process();
    for (let round = 0; round < 12; round += 1) {
      const holder = await issueCard(test.api);
      const certificate = derOf(pemOf(holder.card, 'card-signing'));
      await untilSays(node.address, certificate, 'good');
      expect((await revoke(holder)).status).toBe(200);
      expect(await ask(node.address, certificate)).toBe('revoked');
    }
    await node.stop('SIGTERM');
  });

  it('delays a revocation for as long as it may answer where it hangs, and is then told the truth or asked later', {
    timeout: 40_000,
  }, async () => {
    const node = await process();
    const [holder, next] = [await issueCard(test.api), await issueCard(test.api)];
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    await untilSays(node.address, derOf(pemOf(next.card, 'card-signing')), 'good');
    node.child.kill('SIGSTOP');
    const beganMs = performance.now();
    expect((await revoke(holder)).status).toBe(200);
    const tookMs = performance.now() - beganMs;
    node.child.kill('SIGCONT');
    expect(await ask(node.address, certificate)).not.toBe('good');
    expect(tookMs).toBeGreaterThan(2000);
    expect(tookMs).toBeLessThan(9000);
    await untilSays(node.address, certificate, 'revoked');
    await node.stop('SIGKILL');
    // What a killed one may have said is over soon, and then nothing is waited for.
    await new Promise((resolve) => setTimeout(resolve, 3500));
    const laterMs = performance.now();
    expect((await revoke(next)).status).toBe(200);
    expect(performance.now() - laterMs).toBeLessThan(2000);
  });

  it('is refused where it would answer for longer than revocations wait', async () => {
    const node = await process({ feedLagMax: '1h' });
    await until('it says why', async () => node.log().includes('set ocsp.feedLagMax of the node to no more'));
    await node.stop('SIGTERM');
  });

  it('follows a CA of an earlier version, which knows nothing of confirmations', async () => {
    const asked: string[] = [];
    const batches = [batch([]), batch(history.slice(0, 2))].map((each) => `${JSON.stringify(each)}\n`);
    const server = createServer((incoming, response) => {
      asked.push(`${incoming.method} ${incoming.url}`);
      response.writeHead(incoming.method === 'GET' ? 200 : 404, { 'Content-Type': 'application/json' });
      if (incoming.method === 'GET') for (const line of batches) response.write(line);
      else response.end(JSON.stringify({ type: 'urn:warifu:problem:not-found', detail: 'no such method' }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const pair = {
      key: readFileSync(join(test.folder, 'clients', 'node.key'), 'utf8'),
      cert: readFileSync(join(test.folder, 'clients', 'node.pem'), 'utf8'),
    };
    const remote = new RemoteFeed({
      url: `http://127.0.0.1:${port}`,
      tls: { ...pair, ca: readFileSync(join(test.folder, 'tls', 'operations-ca.pem'), 'utf8') },
      alarm: { interrupted: () => undefined, foreign: () => undefined },
      answersForMs: 3000,
    });
    const received: FeedBatch[] = [];
    const stop = new AbortController();
    await remote.follow({ apply: (each) => void received.push(each) }, undefined, stop.signal);
    await until('it has both', async () => received.length === 2);
    expect(asked).toEqual(['POST /v1/feed', 'GET /v1/feed']);
    stop.abort();
    await remote.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('is told what is wrong with its lines, and no other caller speaks for it', async () => {
    const { pem, key } = {
      pem: readFileSync(join(test.folder, 'clients', 'node.pem'), 'utf8'),
      key: readFileSync(join(test.folder, 'clients', 'node.key'), 'utf8'),
    };
    const agent = new Agent({
      connect: {
        cert: pem,
        key,
        ca: readFileSync(join(test.folder, 'tls', 'operations-ca.pem'), 'utf8'),
      },
    });
    const send = async (body: string, type = 'application/x-ndjson') => {
      const response = await request(`${test.service.addresses.api}/v1/feed`, {
        ...{ dispatcher: agent, method: 'POST', headers: { 'content-type': type }, body },
      });
      const answer = { status: response.statusCode, text: '' };
      for await (const chunk of response.body) {
        answer.text += String(chunk);
        if (response.statusCode === 200) break;
      }
      return answer;
    };
    const first = { follower: 'f'.repeat(32), answersForMs: 3000, cursor: null };
    for (const [body, wanted] of [
      ['', /first line/],
      ['{"follower":', /JSON/],
      ['[]\n', /a line of a follower/],
      [JSON.stringify({ ...first, answersForMs: 0 }), /answersForMs/],
      [JSON.stringify({ ...first, follower: 'x' }), /follower/],
      [JSON.stringify({ ...first, cursor: { incarnation: 'i', positions: { w: -1 } } }), /cursor/],
      [JSON.stringify({ ...first, more: 1 }), /a line of a follower/],
      [`"${'x'.repeat(70_000)}"`, /more than 65536 octets/],
    ] as const) {
      const answer = await send(body).catch((error: Error) => ({
        status: 0,
        text: `${body.slice(0, 40)}: ${error.message}`,
      }));
      expect([answer.status, answer.text]).toEqual([
        answer.text.includes('too-large') ? 413 : 400,
        expect.stringMatching(wanted),
      ]);
    }
    expect((await send(JSON.stringify(first), 'application/json')).status).toBe(415);
    expect(
      (await send(JSON.stringify({ ...first, cursor: { incarnation: 'other', positions: {} } }))).text,
    ).toContain('foreign-cursor');
    // What follows is no line of a follower: it is connected no longer, and nothing else suffers.
    const cut = await send(`${JSON.stringify(first)}\n{"applied":7}\n`).catch((error: Error) => error);
    expect(cut).toMatchObject(cut instanceof Error ? { message: 'other side closed' } : { status: 200 });
    expect((await test.api.get('/health')).status).toBe(200);
    await agent.destroy();
  });
});

describe('what a follower learns', () => {
  it('does not say which certificates were issued together, by their places or their positions', async () => {
    const batches: FeedBatch[] = [];
    const stop = new AbortController();
    const { feed } = test.service.ca.store;
    await feed.follow({ apply: (batch) => void batches.push(batch) }, undefined, stop.signal);
    batches.length = 0;
    await Promise.all(Array.from({ length: 12 }, () => issueCard(test.api)));
    await feed.follow({ apply: () => undefined }, undefined, stop.signal);
    stop.abort();
    const issued = batches.map(({ events }) =>
      events.filter((event) => event.type === 'status' && event.change === 'issued'),
    ) as StatusEvent[][];
    const positionsOf = (name: string) =>
      issued
        .flat()
        .filter(({ authority }) => authority === name)
        .map(({ position }) => position);
    for (const events of issued) {
      const places = events.map(({ authority, position }) => [authority, position] as const);
      const inOrder = [...places].sort(([a, m], [b, n]) => (a === b ? m - n : a < b ? -1 : 1));
      expect(places).toEqual(inOrder);
    }
    const [signing, authentication] = ['signing-1', 'authentication-1'].map(positionsOf);
    expect(signing).toHaveLength(12);
    expect(authentication).toHaveLength(12);
    // Handed out in order they would be twelve in a row, and the same of both.
    const spread = Math.max(...(signing ?? [])) - Math.min(...(signing ?? []));
    expect(spread).toBeGreaterThan(50);
  });
});

describe('a node’s journal', () => {
  it('brings back the worst that any node knows, whatever the order of journals', async () => {
    const status = (version: number, state: string): FeedEvent =>
      ({
        ...history.at(-1),
        position: 3,
        version,
        state,
        revokedMs: state === 'good' ? null : 5,
      }) as FeedEvent;
    for (const events of [
      [status(2, 'revoked'), status(3, 'good')],
      [status(3, 'good'), status(2, 'revoked')],
    ]) {
      expect(latestStatuses(events).map(({ state }) => state)).toEqual(['revoked']);
    }
    expect(latestStatuses([status(2, 'held'), status(3, 'good')]).map(({ state }) => state)).toEqual([
      'good',
    ]);
  });

  it('is whole again after a line that a full disk cut short', async () => {
    const file = join(scratch(), 'journal.ndjson');
    const journal = new FeedJournal(file);
    const recorder = journal.recording({ apply: () => undefined });
    await recorder.apply(batch(history.slice(0, 2)));
    const good = readFileSync(file, 'utf8');
    writeFileSync(file, `${good}{"events":[`);
    const seen: FeedEvent[] = [];
    await journal.replay({ apply: ({ events }) => void seen.push(...events) });
    expect(seen).toHaveLength(2);
    await recorder.apply(batch(history.slice(2, 3)));
    expect((await journalContent(file, believed)).events).toHaveLength(3);
  });
});

/** Lines without proof, as those that the tests write. */
const believed = { seal: null, acceptUnproven: true };

describe('a journal that is written before anything else', () => {
  it('goes on behind a line that a crash cut short', async () => {
    const file = join(scratch(), 'journal.ndjson');
    await new FeedJournal(file).remember(batch(history.slice(0, 2)));
    appendFileSync(file, '{"events":[{"type":"sta');
    const journal = new FeedJournal(file);
    await journal.remember(batch(history.slice(2, 3)));
    await journal.remember(batch([]));
    expect((await journalContent(file, believed)).events).toEqual(history.slice(0, 3));
  });
});

describe('a CRL node of its own', () => {
  it('publishes what it follows, keeps a journal, and goes on from its record', async () => {
    const { folder, port } = await nodeFolder();
    const { logger } = recordedLog();
    const start = () => startCrlNode({ folder, clock: test.clock, logger });
    const holder = await issueCard(test.api);
    const [certificate] = holder.card.certificates;
    const crl = () =>
      fetchCrl(`http://127.0.0.1:${port}/crl/card-signing/1/13113/0.crl`).catch(() => undefined);
    const lists = async () => listed((await crl()) ?? new Uint8Array()).has(certificate?.serialNumber ?? '');
    const first = await start();
    await until('there is a CRL', async () => (await crl()) !== undefined);
    await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    await until('it lists the card', lists);
    await first.close();
    const second = await start();
    expect(await lists()).toBe(true);
    const { events } = await journalContent(join(folder, 'journal.ndjson'), believed);
    expect(events.filter(({ type }) => type === 'status').length).toBeGreaterThan(0);
    await second.close();
  });
});

describe('a CRL node without keys', () => {
  it('serves what the CA signed, octet for octet, and what changes within moments', async () => {
    const { folder, port } = await nodeFolder();
    const file = join(folder, 'node.json');
    const { pkcs11: _, ...config } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    writeFileSync(file, JSON.stringify(config));
    rmSync(join(folder, 'softhsm'), { recursive: true, force: true });
    const { logger } = recordedLog();
    const node = await startCrlNode({ folder, clock: test.clock, logger });
    try {
      const holder = await issueCard(test.api);
      const [certificate] = holder.card.certificates;
      const path = '/crl/card-signing/1/13113/0.crl';
      const at = (address: string) => fetchCrl(`${address}${path}`).catch(() => undefined);
      await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
      await until('it lists the card', async () => {
        const crl = await at(`http://127.0.0.1:${port}`);
        return crl !== undefined && listed(crl).has(certificate?.serialNumber ?? '');
      });
      await until('both are the same', async () => {
        const [own, ofCa] = [await at(`http://127.0.0.1:${port}`), await at(test.service.addresses.crl)];
        return Buffer.compare(own ?? new Uint8Array(), ofCa ?? new Uint8Array()) === 0;
      });
    } finally {
      await node.close();
    }
  });
});

describe('the feed over HTTP', () => {
  it('is for followers only', async () => {
    expect((await test.api.get<{ title: string }>('/feed')).body.title).toBe('forbidden');
    expect((await test.api.get<{ title: string }>('/feed/epochs/signing-1/1')).status).toBe(403);
    expect((await follower.get<{ key: string }>('/feed/epochs/signing-1/1')).body.key).toHaveLength(24);
  });

  it.each([
    ['no JSON', 'x', 400],
    ['no cursor', '{"incarnation":1}', 400],
    ['a foreign cursor', '{"incarnation":"x","positions":{}}', 404],
  ])('refuses %s', async (_what, cursor, status) => {
    expect((await follower.get(`/feed?cursor=${encodeURIComponent(cursor)}`)).status).toBe(status);
  });
});

const silent = { learnt: () => undefined, changed: () => undefined, received: () => undefined };

describe('an index', () => {
  it('comes to the same whatever the order and however often events are delivered', async () => {
    const delivery = fc.tuple(
      fc.shuffledSubarray(history, { minLength: history.length }),
      fc.array(fc.constantFrom(...history)),
    );
    await fc.assert(
      fc.asyncProperty(delivery, async ([shuffled, again]) => {
        const statuses = new StatusIndex(feed, new ManualClock());
        const file = join(scratch(), 'entries.db');
        const store = new EntryStore(file);
        const shards = new CrlFollower({ feed, store, listener: silent });
        for (const event of [...shuffled, ...again]) {
          await statuses.apply(batch([event]));
          await shards.apply(batch([event]));
        }
        expect(
          [0, 1, 2].map((position) => statuses.reader.lookup('signing-1', serial(position)).type),
        ).toEqual(['revoked', 'good', 'good']);
        const [shard] = store.shards;
        const reader = new EntryReader(file);
        const { entries } = gatherListed(reader.read(shard?.id ?? 0, [], 0).buckets, {
          nowMs: 0,
          endedBeforeMs: 0,
        });
        expect(serialsOf(entries)).toEqual(new Set([hex(unsignedInteger(serial(0)))]));
        expect(shard?.path).toBe('crl/p.crl');
        reader.close();
        store.close();
      }),
    );
  });

  it('accepts a revocation by a restored record whose versions start again', async () => {
    const statuses = new StatusIndex(feed, new ManualClock());
    const about = (version: number, state: 'good' | 'held' | 'revoked', revokedMs: number | null) =>
      batch([{ ...history.at(-1), position: 5, version, state, revokedMs, reason: null } as FeedEvent]);
    await statuses.apply(about(2, 'held', 1000));
    await statuses.apply(about(3, 'good', null));
    expect(statuses.reader.lookup('signing-1', serial(5)).type).toBe('good');
    await statuses.apply(about(2, 'revoked', 5000));
    expect(statuses.reader.lookup('signing-1', serial(5))).toMatchObject({
      type: 'revoked',
      revokedMs: 5000,
    });
    await statuses.apply(about(3, 'good', null));
    expect(statuses.reader.lookup('signing-1', serial(5)).type).toBe('revoked');
  });

  it('knows when and why a certificate was revoked that was never in force', async () => {
    const statuses = new StatusIndex(feed, new ManualClock());
    const event = {
      ...history.at(-1),
      position: 9,
      version: 1,
      state: 'revoked',
      reason: 'keyCompromise',
      revokedMs: 7000,
    };
    await statuses.apply(batch([event as FeedEvent]));
    expect(statuses.reader.lookup('signing-1', serial(9))).toEqual({
      type: 'revoked',
      reason: 'keyCompromise',
      revokedMs: 7000,
    });
  });

  it('keeps revoked revoked, whatever a feed may say later', async () => {
    const statuses = new StatusIndex(feed, new ManualClock());
    await statuses.apply(batch(history));
    const revived = { ...history.at(-1), position: 0, version: 99 } as FeedEvent;
    await statuses.apply(batch([revived]));
    expect(statuses.reader.lookup('signing-1', serial(0)).type).toBe('revoked');
  });
});
