import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { performCeremony } from '../../ca/node/ceremony.ts';
import type { PostgresServer } from '../../store/postgres/server.ts';
import { Session } from '../../store/postgres/session.ts';
import {
  dataFolder,
  type Holder,
  issueCard,
  ManualClock,
  removeScratch,
  runWarifu,
  startTestService,
  statusOfCard,
  type TestService,
} from '../support/harness.ts';
import { startPostgres, type TestPostgres } from '../support/postgres-server.ts';

// The service on a record in PostgreSQL, on a server of its own, which is killed and started again.

let postgres: TestPostgres;
const running: TestService[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
});
afterEach(async () => {
  for (const test of running.splice(0)) await test.close();
});
afterAll(() => {
  postgres.stop('immediate');
  postgres.remove();
  removeScratch();
});

let databases = 0;

/** A data folder whose record is in a new database. */
async function folderOnServer(more: Record<string, object> = {}): Promise<{
  readonly folder: string;
  readonly server: PostgresServer;
}> {
  const database = `warifu${++databases}`;
  await sql({ ...postgres.server, database: 'postgres' }, `CREATE DATABASE ${database}`);
  const hosts = [`127.0.0.1:${postgres.port}`];
  const folder = await dataFolder({
    record: { postgres: { hosts, database, user: 'warifu', tls: 'off' } },
    ...more,
  });
  mkdirSync(join(folder, 'secrets'));
  writeFileSync(join(folder, 'secrets', 'postgres.password'), `${postgres.password}\n`, { mode: 0o600 });
  return { folder, server: { ...postgres.server, database } };
}

async function started(
  more: Record<string, object> = {},
): Promise<TestService & { readonly server: PostgresServer }> {
  const { folder, server } = await folderOnServer(more);
  const test = await startTestService({ folder });
  running.push(test);
  return { ...test, server };
}

async function sql(server: PostgresServer, statement: string): Promise<unknown[]> {
  const session = await Session.open(server, { name: 'by hand' });
  try {
    return (await session.query(statement)).rows.map(([first]) => first);
  } finally {
    await session.close();
  }
}

const command = (test: TestService, ...args: string[]) => runWarifu(...args, '--data', test.folder);

describe('a service whose record is in PostgreSQL', () => {
  it('issues and revokes, and goes on where it was after a restart', async () => {
    const test = await started();
    const [kept, lost] = [await issueCard(test.api), await issueCard(test.api)];
    expect((await test.api.post('/events', { event: 'died', holderId: lost.holderId })).status).toBe(200);
    expect([await statusOfCard(test, kept), await statusOfCard(test, lost)]).toEqual(['good', 'revoked']);
    await running.pop()?.close();
    const again = await startTestService({ folder: test.folder });
    running.push(again);
    expect([await statusOfCard(again, kept), await statusOfCard(again, lost)]).toEqual(['good', 'revoked']);
    await issueCard(again.api);
  });

  it('goes on by itself after the server was killed, and has lost nothing that it acknowledged', {
    timeout: 90_000,
  }, async () => {
    const test = await started();
    const before = await issueCard(test.api);
    const answers = Array.from({ length: 20 }, () => issueCard(test.api).catch((error: Error) => error));
    // Some have been answered by then.
    await Promise.race(answers);
    postgres.stop('immediate');
    const settled = await Promise.all(answers);
    expect((await test.api.get('/health')).status).toBe(503);
    postgres.start();
    await expect.poll(async () => (await test.api.get('/health')).status, { timeout: 30_000 }).toBe(200);
    const acknowledged = settled.filter((each): each is Holder => !(each instanceof Error));
    expect(acknowledged.length).toBeGreaterThan(0);
    for (const each of [before, ...acknowledged]) expect(await statusOfCard(test, each)).toBe('good');
    await issueCard(test.api);
    expect(await command(test, 'audit', 'verify')).toMatchObject({ code: 0 });
  });

  it('is an alarm where a row was altered by hand', { timeout: 60_000 }, async () => {
    const test = await started();
    await issueCard(test.api);
    await sql(test.server, `UPDATE certificate SET "notAfterMs" = "notAfterMs" + 1`);
    await expect
      .poll(() => test.log(), { timeout: 40_000 })
      .toContain('ALARM: the record was altered outside the service');
    const verified = await command(test, 'audit', 'verify');
    expect(verified.code).not.toBe(0);
    expect(verified.output).toContain('certificate');
  });

  it('has an operator’s command write beside it, under a name of its own', { timeout: 60_000 }, async () => {
    const test = await started();
    expect(await command(test, 'client', 'second')).toMatchObject({ code: 0 });
    await issueCard(test.api);
    const writers = await sql(test.server, `SELECT value FROM meta WHERE name LIKE 'writer:%' ORDER BY 1`);
    expect(writers).toEqual(['n1', 'n1-operator']);
  });

  it('refuses what is done with the file of the record, and says what to do instead', {
    timeout: 60_000,
  }, async () => {
    const test = await started();
    const copy = join(test.folder, 'copy.db');
    expect((await command(test, 'backup', copy)).output).toContain('a backup: the record is in PostgreSQL');
    await running.pop()?.close();
    expect((await command(test, 'restore', copy)).output).toContain('a restore: the record is in PostgreSQL');
    const backups = { folder: 'backups', recipients: [`age1${'q'.repeat(58)}`] };
    await expect(started({ backups })).rejects.toThrow('/backups: the record is in PostgreSQL');
  });
});

describe('a ceremony', () => {
  it('refuses a database that holds a record already', async () => {
    const { folder, server } = await folderOnServer();
    await performCeremony({ folder, clock: new ManualClock() });
    const other = await dataFolder({
      record: {
        postgres: {
          hosts: [`127.0.0.1:${postgres.port}`],
          ...{ database: server.database, user: 'warifu', tls: 'off' },
        },
      },
    });
    mkdirSync(join(other, 'secrets'));
    writeFileSync(join(other, 'secrets', 'postgres.password'), postgres.password, { mode: 0o600 });
    await expect(performCeremony({ folder: other, clock: new ManualClock() })).rejects.toThrow(
      'the database holds a record already',
    );
  });

  it('refuses a password that anyone can read, and names none', async () => {
    const { folder } = await folderOnServer();
    const file = join(folder, 'secrets', 'postgres.password');
    writeFileSync(file, postgres.password, { mode: 0o644 });
    chmodSync(file, 0o644);
    const failure = await performCeremony({ folder, clock: new ManualClock() }).then(
      () => new Error('it did not fail'),
      (error: Error) => error,
    );
    expect(failure.message).toContain('postgres.password');
    expect(failure.message).not.toContain(postgres.password);
  });
});
