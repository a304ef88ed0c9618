import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { residentOctets } from '../../bench/load/measure.ts';
import type { BatchAnswer, BatchLine, CaClient, Changed, Issued } from '../../ca/client/client.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { type ChipKey, cardRequest, namedClient, until } from '../support/actors.ts';
import { fixture, freePort, removeScratch, scratch } from '../support/harness.ts';
import { factoryOf } from '../support/primes.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';

// The real service, in a process of its own, whose CA keys are used in signing processes over a module that fails on
// command, while cards are issued by the hundred.

const folder = join(scratch(), 'data');
const faults = scratch();
const keys = factoryOf('batches');
let service: ServiceProcess;
let api: CaClient;
let metrics: string;

beforeAll(async () => {
  const interposer = join(faults, 'interposer.so');
  const includes = new URL('../../node_modules/pkcs11js/includes/pkcs11', import.meta.url).pathname;
  execFileSync('cc', ['-shared', '-fPIC', '-o', interposer, fixture('interposer.c'), '-I', includes, '-ldl']);
  mkdirSync(join(faults, 'now'));
  process.env.WARIFU_REAL_MODULE = findModule();
  process.env.WARIFU_FAULTS = join(faults, 'now');
  const port = await freePort();
  const addresses = await configure(folder, {
    pkcs11: { module: interposer, isolation: 'processes', callTimeout: '1500ms' },
    metrics: { host: '127.0.0.1', port },
    crl: { workers: 1 },
  });
  metrics = `http://127.0.0.1:${port}/metrics`;
  service = await startProcess(folder, addresses);
  api = namedClient(folder, addresses.api, 'first');
});

afterAll(async () => {
  await api.close();
  await service.stop();
  removeScratch();
});

let cards = 0;
function line(pair?: { signing: ChipKey; authentication: ChipKey }): BatchLine {
  cards += 1;
  const chip = pair ?? { signing: keys.next(), authentication: keys.next() };
  const card = cardRequest(chip, { holderId: `h${cards}`, cardId: `c${cards}` });
  return { idempotencyKey: `k${cards}`, card: card as BatchLine['card'] };
}

async function produce(count: number, during: (answered: number) => void): Promise<BatchAnswer[]> {
  const answers: BatchAnswer[] = [];
  for await (const answer of api.issueToCards(Array.from({ length: count }, () => line()))) {
    answers.push(answer);
    during(answers.length);
  }
  return answers;
}

const metric = async (name: string): Promise<number> => {
  const text = await (await request(metrics)).body.text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1]);
};

/** Processes that sign for the service. */
function signers(): number[] {
  return readdirSync(`/proc/${service.child.pid}/task/${service.child.pid}`).includes('children')
    ? readFileSync(`/proc/${service.child.pid}/task/${service.child.pid}/children`, 'utf8')
        .trim()
        .split(' ')
        .map(Number)
    : [];
}

it('a revocation needs no token, not even the first after the start', async () => {
  const holder = line();
  expect((await api.post<Issued>('/card-certificates', holder.card)).status).toBe(201);
  writeFileSync(join(faults, 'now', 'C_FindObjectsInit'), 'fail 48');
  const answer = await api.post<Changed>('/events', { event: 'died', holderId: holder.card.holderId });
  rmSync(join(faults, 'now', 'C_FindObjectsInit'));
  expect(answer).toMatchObject({ status: 200 });
  expect(answer.body.changes.map(({ to }) => to.state)).toEqual(['revoked', 'revoked']);
});

describe('a batch goes on, every line of it is issued, and no pair is half', () => {
  const healthy = async (): Promise<void> => {
    await until('health is green', async () => (await api.get('/health')).status === 200);
  };

  it('where a signing process is killed', async () => {
    const before = await metric('warifu_signing_process_restarts_total');
    const answers = await produce(80, (answered) => {
      if (answered === 20) process.kill(signers()[0] ?? 0, 'SIGKILL');
    });
    expect(answers.map(({ status }) => status)).toEqual(Array(80).fill(201));
    expect(await metric('warifu_signing_process_restarts_total')).toBe(before + 1);
    await healthy();
  });

  it('where a signature never returns', async () => {
    const before = await metric('warifu_signing_process_restarts_total');
    writeFileSync(join(faults, 'now', 'C_Sign'), 'hang once');
    const answers = await produce(80, () => undefined);
    expect(answers.map(({ status }) => status)).toEqual(Array(80).fill(201));
    expect(await metric('warifu_signing_process_restarts_total')).toBe(before + 1);
    expect(service.log()).toContain('gave no answer within 1500 ms and was killed');
    await healthy();
  });

  it('where a signature comes out wrong: it is made again, and the wrong one is nowhere', async () => {
    writeFileSync(join(faults, 'now', 'C_Sign'), 'corrupt once');
    const answers = await produce(40, () => undefined);
    expect(readdirSync(join(faults, 'now')).filter((name) => !name.startsWith('count.'))).toEqual([]);
    expect(answers.map(({ status }) => status)).toEqual(Array(40).fill(201));
  });

  it('and says token-unavailable while no token signs; the same lines are issued when one does', async () => {
    const lines = Array.from({ length: 6 }, () => line());
    writeFileSync(join(faults, 'now', 'C_Sign'), 'fail 48');
    const refused: BatchAnswer[] = [];
    for await (const answer of api.issueToCards(lines)) refused.push(answer);
    expect(refused.map(({ problem }) => problem?.title)).toEqual(Array(6).fill('token-unavailable'));
    expect(await metric('warifu_token_up')).toBe(0);
    rmSync(join(faults, 'now', 'C_Sign'));
    await until(
      'what was reserved is rolled forward',
      async () => {
        const answers: BatchAnswer[] = [];
        for await (const answer of api.issueToCards(lines)) answers.push(answer);
        return answers.every(({ status }) => status === 201);
      },
      100_000,
    );
    expect(await metric('warifu_token_up')).toBe(1);
    await healthy();
  });
});

it('asked ten times what it can do, the service says 429 to what is too much, and revokes at once', async () => {
  const holder = line();
  expect((await api.post<Issued>('/card-certificates', holder.card)).status).toBe(201);
  const { hostname, port } = new URL(service.addresses.api);
  const pem = (name: string): Buffer => readFileSync(join(folder, name));
  const tls = {
    key: pem('clients/first.key'),
    cert: pem('clients/first.pem'),
    ca: pem('tls/operations-ca.pem'),
  };
  // Requests for one pair, one behind the other on each connection, without waiting for answers: few on each, because Node
  // breaks off connections whose answers gather (HPE_PAUSED).
  const pair = { signing: keys.next(), authentication: keys.next() };
  const [connections, each] = [100, 45];
  const statuses = new Map<number, number>();
  const before = residentOctets(service.child.pid ?? 0);
  const go = Promise.withResolvers<void>();
  let connected = 0;
  const flood = Array.from({ length: connections }, async () => {
    const socket = connect({ host: hostname, port: Number(port), ...tls });
    let text = '';
    let answered = 0;
    const done = Promise.withResolvers<void>();
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (const match of text.matchAll(/HTTP\/1\.1 (\d{3})/g)) {
        statuses.set(Number(match[1]), (statuses.get(Number(match[1])) ?? 0) + 1);
        answered += 1;
      }
      text = text.slice(-12).replace(/HTTP\/1\.1 \d{3}/g, '');
      if (answered >= each) done.resolve();
    });
    socket.on('error', done.reject);
    // All at once, when all are connected.
    socket.once('secureConnect', () => {
      connected += 1;
      if (connected === connections) go.resolve();
    });
    await go.promise;
    socket.on('close', () => done.reject(new Error(`closed after ${answered} answers`)));
    for (let i = 0; i < each; i++) {
      const { idempotencyKey, card } = line(pair);
      const body = JSON.stringify(card);
      const head = `POST /v1/card-certificates HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: ${idempotencyKey}\r\n`;
      socket.write(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    }
    await done.promise;
    socket.destroy();
  });
  await go.promise;
  const startMs = performance.now();
  const answer = await api.post<Changed>('/events', { event: 'died', holderId: holder.card.holderId });
  const tookMs = performance.now() - startMs;
  await Promise.all(flood);
  const floodMs = performance.now() - startMs;
  expect(answer).toMatchObject({ status: 200 });
  expect(answer.body.changes.map(({ to }) => to.state)).toEqual(['revoked', 'revoked']);
  // Not behind the flood, however slow the machine is.
  expect(tookMs).toBeLessThan(floodMs * 0.9);
  // One is issued; the same keys again are refused; and what was too much of one client gets 429.
  expect(statuses.get(201)).toBe(1);
  expect(statuses.get(429)).toBeGreaterThan(0);
  expect([...statuses.keys()].sort()).toEqual([201, 409, 429]);
  expect(residentOctets(service.child.pid ?? 0) - before).toBeLessThan(512 * 2 ** 20);
}, 60_000);
