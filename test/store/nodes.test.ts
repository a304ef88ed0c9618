import { pino } from 'pino';
import { afterAll, afterEach, expect, it } from 'vitest';
import { systemClock } from '../../core/runtime/clock.ts';
import type { Nodes } from '../../store/api/nodes.ts';
import { nodesMax } from '../../store/api/nodes.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { openPostgres } from '../../store/postgres/postgres.ts';
import type { PostgresServer } from '../../store/postgres/server.ts';
import { Session } from '../../store/postgres/session.ts';
import { openRecord } from '../../store/rules/ceremony-rules.ts';
import { dropDatabases, newDatabase } from '../support/postgres.ts';

// Leases, claims and messages of the nodes of one record, on a real server.

const answersForMs = 600;
const actor = { client: 'test', role: 'console', requestId: '' };
const logger = pino({ level: 'silent' });
const opened: { readonly nodes: Nodes; readonly database: RecordDatabase }[] = [];

afterEach(async () => {
  for (const { nodes, database } of opened.splice(0).reverse()) {
    await nodes.close(false);
    await database.close();
  }
});
afterAll(dropDatabases);

async function open(
  server: PostgresServer,
  writer: string,
  answers = answersForMs,
): Promise<(typeof opened)[number]> {
  const database = await openPostgres({ server, writer, clock: systemClock, timedByServer: true });
  await openRecord(database, actor);
  const nodes = (await database.openNodes?.({ answersForMs: answers, logger })) as Nodes;
  const node = { nodes, database };
  opened.push(node);
  return node;
}

async function sql(server: PostgresServer, statement: string): Promise<unknown[]> {
  const session = await Session.open(server, { name: 'by hand' });
  try {
    return (await session.query(statement)).rows.map(([first]) => first);
  } finally {
    await session.close();
  }
}

const timed = async (act: Promise<void>): Promise<number> => {
  const beganMs = performance.now();
  await act;
  return performance.now() - beganMs;
};

it('a node waits for another until that has said that it has come so far', async () => {
  const server = await newDatabase();
  const [a, b] = [await open(server, 'a'), await open(server, 'b')];
  const reached = a.nodes.reached({ a: 5 });
  setTimeout(() => b.nodes.announce({ a: 5, b: 1 }, { a: 5, b: 1 }), 100);
  const tookMs = await timed(reached);
  expect(tookMs).toBeGreaterThan(80);
  expect(tookMs).toBeLessThan(answersForMs);
  // Once it has been said, nothing is waited for.
  expect(await timed(a.nodes.reached({ a: 5 }))).toBeLessThan(answersForMs / 2);
});

it('a node waits no longer for one that says nothing than that may answer by what it knew', async () => {
  const server = await newDatabase();
  const a = await open(server, 'a');
  await open(server, 'b');
  const tookMs = await timed(a.nodes.reached({ a: 5 }));
  expect(tookMs).toBeGreaterThan(answersForMs - 50);
  expect(tookMs).toBeLessThan(answersForMs * 3);
});

it('a node that has ended is not waited for', async () => {
  const server = await newDatabase();
  const [a, b] = [await open(server, 'a'), await open(server, 'b')];
  await b.nodes.close(false);
  expect(await timed(a.nodes.reached({ a: 5 }))).toBeLessThan(answersForMs / 2);
});

it('hears at once that another node is further', async () => {
  const server = await newDatabase();
  const [a, b] = [await open(server, 'a'), await open(server, 'b')];
  const heard = new Promise((resolve) => b.nodes.onNews(resolve));
  a.nodes.announce({ a: 7 }, {});
  expect(await heard).toEqual({ a: 7 });
});

it('one node alone does the work of all, and another once that is gone', async () => {
  const server = await newDatabase();
  const [a, b] = [await open(server, 'a'), await open(server, 'b')];
  expect([a.nodes.does('duties'), b.nodes.does('duties')]).toEqual([true, false]);
  await a.nodes.close(false);
  await expect.poll(() => b.nodes.does('duties')).toBe(true);
});

it('a node that cannot publish lets another, and does its other work', async () => {
  const server = await newDatabase();
  const [a, b] = [await open(server, 'a'), await open(server, 'b')];
  expect(a.nodes.publications?.isPublisher()).toBe(true);
  a.nodes.publications?.giveUp();
  expect(a.nodes.does('crl')).toBe(false);
  await expect.poll(() => b.nodes.does('crl')).toBe(true);
  expect([a.nodes.does('duties'), b.nodes.does('duties')]).toEqual([true, false]);
});

it('a node that cannot renew its lease dates nothing later than its followers may answer for', async () => {
  const server = await newDatabase();
  const { nodes } = await open(server, 'a');
  const beganMs = systemClock.wallMs();
  expect(await nodes.completeUntil(beganMs)).toBeGreaterThan(beganMs - 100);
  // Nothing can be written there for longer than a lease lasts.
  const holding = await Session.open(server, { name: 'by hand' });
  await holding.query('BEGIN');
  await holding.query('LOCK TABLE "nodeLease"');
  await new Promise((resolve) => setTimeout(resolve, answersForMs * 3));
  const nowMs = systemClock.wallMs();
  const completeMs = await nodes.completeUntil(nowMs);
  // What follows answers for `answersForMs` beyond that: until before the lease ends, which was renewed last as the table was locked.
  expect(completeMs).toBeLessThan(nowMs - answersForMs);
  expect(completeMs + answersForMs).toBeLessThan(beganMs + 3 * answersForMs);
  await holding.close();
});

it('what is complete ends where a transaction of any node began that has not ended', async () => {
  const server = await newDatabase();
  const { nodes } = await open(server, 'a');
  const lane = await Session.open(server, { name: 'warifu lane other' });
  await lane.query('BEGIN');
  const begunMs = systemClock.wallMs();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(await nodes.completeUntil(systemClock.wallMs())).toBeLessThanOrEqual(begunMs);
  await lane.query('COMMIT');
  await lane.close();
  expect(await nodes.completeUntil(systemClock.wallMs())).toBeGreaterThan(begunMs + 100);
});

it('every node has a number of its own, and one too many is refused', async () => {
  const server = await newDatabase();
  const ordinals: (number | null)[] = [];
  for (let i = 0; i < nodesMax; i++) ordinals.push((await open(server, `n${i}`, 10_000)).nodes.ordinal);
  expect(new Set(ordinals)).toEqual(new Set(Array.from({ length: nodesMax }, (_, i) => i)));
  await expect(open(server, 'one-more', 10_000)).rejects.toMatchObject({
    code: 'bad-request',
    message: expect.stringContaining('8 CA nodes have this record'),
  });
});

it('passes over messages that are none of a node', async () => {
  const server = await newDatabase();
  const { nodes } = await open(server, 'a');
  const heard: unknown[] = [];
  nodes.onNews((positions) => heard.push(positions));
  for (const text of [
    'x',
    '{}',
    'null',
    '{"node":"b","asks":1,"positions":{}}',
    '{"node":"b","asks":false,"positions":null}',
  ])
    await sql(server, `SELECT pg_notify('warifu_nodes', '${text}')`);
  await sql(server, `SELECT pg_notify('warifu_nodes', '{"node":"b","asks":false,"positions":{"b":1}}')`);
  await expect.poll(() => heard).toEqual([{ b: 1 }]);
});
