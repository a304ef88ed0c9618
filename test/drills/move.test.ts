import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { layout } from '../../ca/node/layout.ts';
import { openReader } from '../../store/audit/open-reader.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { copyRecord, differingTable, sumsOf } from '../../store/move/copy-record.ts';
import { openCopyTarget } from '../../store/move/postgres-target.ts';
import { openCopyFile } from '../../store/move/sqlite-target.ts';
import { type PostgresServer, plainServer } from '../../store/postgres/server.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import {
  dataFolder,
  issueCard,
  ManualClock,
  removeScratch,
  runWarifu,
  scratch,
  startTestService,
  statusOfCard,
  type TestService,
} from '../support/harness.ts';
import { dropDatabases, newDatabase } from '../support/postgres.ts';
import { openAuthority, writeRows } from '../support/store-commands.ts';

// A record moved from a file into a database, and back.

const running: TestService[] = [];
afterEach(async () => {
  for (const test of running.splice(0)) await test.close();
});
afterAll(dropDatabases);
afterAll(removeScratch);

async function start(folder: string): Promise<TestService> {
  const test = await startTestService({ folder });
  running.push(test);
  return test;
}

const stop = async (): Promise<void> => running.pop()?.close();

/** Arguments of a move into a new database, whose password is put into the data folder. */
async function intoDatabase(
  folder: string,
): Promise<{ readonly args: string[]; readonly server: PostgresServer }> {
  const server = await newDatabase();
  mkdirSync(join(folder, 'secrets'), { recursive: true });
  const password = server.password?.() ?? '';
  writeFileSync(join(folder, 'secrets', 'postgres.password'), password, { mode: 0o600 });
  const [at] = server.hosts;
  const to = `postgres://${server.user}@${at?.host}:${at?.port}/${server.database}`;
  return { args: ['migrate', '--to', to, '--no-tls', '--data', folder], server };
}

/** Puts what the command says into the configuration. */
function configure(folder: string, output: string): void {
  const file = layout(folder).config;
  const record = JSON.parse(/"record": (\{.*\})$/m.exec(output)?.[1] ?? '') as object;
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, record }));
}

describe('a record that is moved', () => {
  it('into a database and back stays the same record, with its statuses, chain and journal', {
    timeout: 120_000,
  }, async () => {
    const folder = await dataFolder();
    const first = await start(folder);
    const [kept, dead] = [await issueCard(first.api), await issueCard(first.api)];
    await first.api.post('/events', { event: 'died', holderId: dead.holderId });
    const { args } = await intoDatabase(folder);
    // While the service has it.
    expect((await runWarifu(...args)).output).toContain('in-use');
    await stop();

    const there = await runWarifu(...args);
    expect(there).toMatchObject({ code: 0 });
    expect(there.output).toMatch(/certificate: \d+ rows, the same sum/);
    expect(there.output).toMatch(/\d+ entries of the audit chain verified in the database/);
    expect(existsSync(layout(folder).record)).toBe(false);
    // Started as it was, it finds no record, and makes none.
    await expect(start(folder)).rejects.toThrow('says that the record was moved');
    configure(folder, there.output);

    const second = await start(folder);
    expect([await statusOfCard(second, kept), await statusOfCard(second, dead)]).toEqual(['good', 'revoked']);
    const later = await issueCard(second.api);
    await second.api.post('/events', { event: 'died', holderId: kept.holderId });
    await stop();
    expect(await runWarifu('audit', 'verify', '--data', folder)).toMatchObject({ code: 0 });

    const back = await runWarifu('migrate', '--to', 'sqlite', '--data', folder);
    expect(back).toMatchObject({ code: 0 });
    expect(back.output).toMatch(/the schema moved_\d+ of the database/);
    await expect(start(folder)).rejects.toThrow('holds no record');
    configure(folder, back.output);
    const third = await start(folder);
    const statuses = [kept, dead, later].map((each) => statusOfCard(third, each));
    expect(await Promise.all(statuses)).toEqual(['revoked', 'revoked', 'good']);
    await issueCard(third.api);
    await stop();
    expect(await runWarifu('audit', 'verify', '--data', folder)).toMatchObject({ code: 0 });
  });

  it('is finished by the same command where it was interrupted as it put the old one aside, and is not used before', {
    timeout: 120_000,
  }, async () => {
    const folder = await dataFolder();
    await start(folder);
    await stop();
    const paths = layout(folder);
    const { args } = await intoDatabase(folder);
    const there = await runWarifu(...args);
    configure(folder, there.output);
    const server = JSON.parse(readFileSync(paths.config, 'utf8')) as object;
    const back = await runWarifu('migrate', '--to', 'sqlite', '--data', folder);
    expect(back).toMatchObject({ code: 0 });
    // As after a kill before the last step: the note is there, and the file has its first name.
    renameSync(paths.record, `${paths.record}.moving`);
    const note = {
      state: 'copied',
      to: 'the file record.db',
      from: 'server',
      atMs: 0,
      lines: ['holder: 1 rows'],
    };
    writeFileSync(join(folder, 'record.moving.json'), JSON.stringify(note));
    // What an earlier service has left is no part of the record.
    writeFileSync(`${paths.record}-wal`, 'of another time');
    await expect(start(folder)).rejects.toThrow('run the same warifu migrate again');
    expect((await runWarifu('audit', 'verify', '--data', folder)).output).toContain('warifu migrate again');
    // Another place than the one that has the copy.
    expect((await runWarifu(...args)).output).toContain('was copied to the file record.db: finish that');
    writeFileSync(paths.config, JSON.stringify(server));
    const again = await runWarifu('migrate', '--to', 'sqlite', '--data', folder);
    expect(again.output).toContain('holder: 1 rows');
    expect(existsSync(`${paths.record}-wal`)).toBe(false);
    configure(folder, again.output);
    await start(folder);
  });

  it('is refused a database that is not empty, an address that has a password, and one that is there already', {
    timeout: 60_000,
  }, async () => {
    const folder = await dataFolder();
    await start(folder);
    await stop();
    const { args, server } = await intoDatabase(folder);
    const other = await openCopyTarget(server);
    await other.write('holder', [{ holderId: 'a', createdMs: 1 }]);
    await other.close();
    expect((await runWarifu(...args)).output).toContain('is not empty: a record is copied into an empty one');
    const withPassword = await runWarifu('migrate', '--to', 'postgres://u:secret@h/d', '--data', folder);
    expect(withPassword.code).not.toBe(0);
    expect(withPassword.output).toContain('a password stands in a file');
    expect(withPassword.output).not.toContain('secret');
    expect((await runWarifu('migrate', '--to', 'sqlite', '--data', folder)).output).toContain(
      'a file already',
    );
    expect(existsSync(layout(folder).record)).toBe(true);
    await start(folder);
  });
});

describe('copying', () => {
  const clock = new ManualClock();
  const key = new AuditKey(new Uint8Array(32).fill(3));

  /** A file with more rows of a table than a page has. */
  async function filled(): Promise<string> {
    const file = join(scratch(), 'record.db');
    const database = openSqlite({ file, writer: 'n1', clock });
    database.authenticateWith(key);
    await openAuthority(database, clock);
    for (let page = 0; page < 4; page += 1)
      await writeRows(database, (tx) => {
        for (let i = 0; i < 900; i += 1)
          tx.insert('holder', { holderId: `h-${i}-${page}-日本`, createdMs: i });
        tx.insert('evidence', {
          issuanceId: `e${page}`,
          dataKey: 'k',
          octets: new Uint8Array(70_000).fill(page),
        });
      });
    await database.close();
    return file;
  }

  it('goes on where it was interrupted, and comes to the same rows and sums', async () => {
    const file = await filled();
    const from = openReader({ file }, () => undefined);
    const server = await newDatabase();
    const target = await openCopyTarget(server);
    let writes = 0;
    const dying = {
      ...target,
      write: async (...of: Parameters<typeof target.write>) => {
        writes += 1;
        if (writes === 4) throw new Error('killed');
        await target.write(...of);
      },
    };
    await expect(copyRecord(from, dying, () => undefined)).rejects.toThrow('killed');
    let copied = 0;
    await copyRecord(from, target, (rows) => {
      copied = rows;
    });
    await target.close();
    const there = openReader({ server: plainServer(server) }, () => undefined);
    const [before, after] = [sumsOf(from, key, () => undefined), sumsOf(there, key, () => undefined)];
    expect(differingTable(before, after)).toBeUndefined();
    expect(after.rowsOf('holder')).toBe(3600);
    expect(copied).toBeLessThan(3600);
    const back = join(scratch(), 'back.db');
    const copy = openCopyFile(back);
    await copyRecord(there, copy, () => undefined);
    await copy.close();
    const again = openReader({ file: back }, () => undefined);
    expect(
      differingTable(
        before,
        sumsOf(again, key, () => undefined),
      ),
    ).toBeUndefined();
    for (const each of [from, there, again]) each.close();
  });

  it.each([
    ['a row was altered', `UPDATE holder SET createdMs = 7 WHERE holderId = 'h-5-1-日本'`, 'holder'],
    ['a row was removed', `DELETE FROM evidence WHERE issuanceId = 'e2'`, 'evidence'],
    ['a row was added', `INSERT INTO holder VALUES ('a', 1)`, 'holder'],
  ])('is seen not to be the same where %s since', async (_what, statement, table) => {
    const file = await filled();
    const from = openReader({ file }, () => undefined);
    const made = join(scratch(), 'copy.db');
    const target = openCopyFile(made);
    await copyRecord(from, target, () => undefined);
    await target.close();
    using database = new DatabaseSync(file);
    database.exec(statement);
    const copy = openReader({ file: made }, () => undefined);
    const sums = [from, copy].map((each) => sumsOf(each, key, () => undefined));
    expect(differingTable(...(sums as Parameters<typeof differingTable>))).toBe(table);
    for (const each of [from, copy]) each.close();
  });
});
