import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Session } from '../../store/postgres/session.ts';
import {
  dataFolder,
  freePort,
  type Holder,
  issueCard,
  removeScratch,
  startTestService,
  statusOfCard,
  type TestService,
} from '../support/harness.ts';
import { startPostgres, startStandby, type TestPostgres } from '../support/postgres-server.ts';

// The database fails over, again and again: a primary is killed, its synchronous standby promoted, another one attached.

const servers: TestPostgres[] = [];
const ports: number[] = [];
const running: TestService[] = [];

beforeAll(async () => {
  servers.push(await startPostgres());
  ports.push(servers[0]?.port ?? 0);
  for (let more = 0; more < 4; more += 1) ports.push(await freePort());
});
afterEach(async () => {
  for (const test of running.splice(0)) await test.close();
});
afterAll(() => {
  for (const server of servers) {
    try {
      server.stop('immediate');
    } catch (error) {
      // Those that the test has killed.
      if (!String(error).includes('is not running') && !String(error).includes('PID file')) throw error;
    }
    server.remove();
  }
  removeScratch();
});

async function sql({ server }: TestPostgres, statement: string): Promise<readonly (readonly unknown[])[]> {
  const session = await Session.open(server, { name: 'by hand' });
  const { rows } = await session.query(statement).finally(() => session.close());
  return rows;
}

/** Attaches a standby to the server that is primary now, and has each commit wait for it. */
async function attach(): Promise<void> {
  const primary = servers.at(-1) as TestPostgres;
  const standby = startStandby(primary, {
    name: `standby${servers.length}`,
    port: ports[servers.length] as number,
  });
  servers.push(standby);
  await sql(primary, `ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'`);
  await sql(primary, 'SELECT pg_reload_conf()');
}

const folderOn = async (hosts: readonly number[], strict = false): Promise<string> => {
  const folder = await dataFolder({
    record: {
      postgres: {
        hosts: hosts.map((port) => `127.0.0.1:${port}`),
        ...{ database: 'postgres', user: 'warifu', tls: 'off', strict },
      },
    },
  });
  mkdirSync(join(folder, 'secrets'));
  const { password = '' } = servers[0] ?? {};
  writeFileSync(join(folder, 'secrets', 'postgres.password'), password, { mode: 0o600 });
  return folder;
};

describe('a database that fails over', () => {
  it('loses nothing that was acknowledged, and no serial number is used twice', {
    timeout: 180_000,
  }, async () => {
    const folder = await folderOn(ports);
    await expect(startTestService({ folder })).rejects.toThrow(
      /no synchronous standby: a failover would lose/,
    );
    await attach();
    const test = await startTestService({ folder });
    running.push(test);
    const acknowledged: Holder[] = [await issueCard(test.api)];
    for (let failover = 0; failover < 2; failover += 1) {
      const issuing = Array.from({ length: 12 }, () => issueCard(test.api).catch((error: Error) => error));
      await Promise.race(issuing);
      servers.at(-2)?.stop('immediate');
      const settled = await Promise.all(issuing);
      acknowledged.push(...settled.filter((each): each is Holder => !(each instanceof Error)));
      servers.at(-1)?.promote();
      await expect.poll(async () => (await test.api.get('/health')).status, { timeout: 30_000 }).toBe(200);
      const [revoked] = acknowledged.splice(0, 1) as [Holder];
      const died = await test.api.post('/events', { event: 'died', holderId: revoked.holderId });
      expect(died.status).toBe(200);
      expect(await statusOfCard(test, revoked)).toBe('revoked');
      acknowledged.push(await issueCard(test.api));
      for (const each of acknowledged) expect(await statusOfCard(test, each)).toBe('good');
      await expect
        .poll(() => test.log(), { timeout: 30_000 })
        .toContain('ALARM: what is acknowledged is on one database server alone');
      if (failover > 0) break;
      await attach();
      await expect
        .poll(() => test.log(), { timeout: 30_000 })
        .toContain('the database has a synchronous standby again');
    }
    const serials = acknowledged.flatMap(({ card }) =>
      card.certificates.map(({ serialNumber }) => serialNumber),
    );
    expect(new Set(serials).size).toBe(serials.length);
    // What is leased from now on may have been used by a node that this server has never heard of.
    await running.pop()?.close();
    await attach();
    const again = await startTestService({ folder });
    running.push(again);
    acknowledged.push(await issueCard(again.api));
    const firsts = await sql(
      servers.at(-2) as TestPostgres,
      'SELECT max(first) FROM lease GROUP BY authority',
    );
    expect(firsts).toHaveLength(2);
    for (const [first] of firsts) expect(Number(first)).toBeGreaterThanOrEqual(2 ** 24);
    for (const each of acknowledged) expect(await statusOfCard(again, each)).toBe('good');
  });

  it('writes nothing without a synchronous standby where that is configured, and again with one', {
    timeout: 120_000,
  }, async () => {
    servers.at(-2)?.stop('immediate');
    servers.at(-1)?.promote();
    const alone = servers.at(-1) as TestPostgres;
    await sql(alone, 'CREATE DATABASE strict');
    await attach();
    const folder = await folderOn([alone.port, servers.at(-1)?.port ?? 0], true);
    const file = join(folder, 'warifu.json');
    const config = readFileSync(file, 'utf8').replace('"database":"postgres"', '"database":"strict"');
    writeFileSync(file, config);
    const test = await startTestService({ folder });
    running.push(test);
    await issueCard(test.api);
    servers.at(-1)?.stop('immediate');
    await sql(alone, `ALTER SYSTEM SET synchronous_standby_names = ''`);
    await sql(alone, 'SELECT pg_reload_conf()');
    await expect.poll(async () => (await test.api.get('/health')).status, { timeout: 30_000 }).toBe(503);
    await expect(issueCard(test.api)).rejects.toThrow('nothing is written (record.postgres.strict)');
    await sql(alone, `ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'`);
    await sql(alone, 'SELECT pg_reload_conf()');
    servers.at(-1)?.start();
    await expect.poll(async () => (await test.api.get('/health')).status, { timeout: 30_000 }).toBe(200);
    await issueCard(test.api);
  });
});
