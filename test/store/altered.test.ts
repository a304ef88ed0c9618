import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { layout } from '../../ca/node/layout.ts';
import { entryHash, rowsOfEntry } from '../../store/engine/audit-entry.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { rowDigest } from '../../store/schema/digest.ts';
import type { Row } from '../../store/schema/schema.ts';
import { alter, rewriteChain } from '../support/adversary.ts';
import {
  addClient,
  issueCard,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
  warifu,
} from '../support/harness.ts';

// An attacker can write the database and knows this software. Each alteration is an alarm in the running service within a minute, and
// fails `audit verify`.

let test: TestService;
const running: TestService[] = [];
async function start(): Promise<TestService> {
  test = await startTestService({ overrides: { audit: { checkpointEvery: '1s' } } });
  running.push(test);
  return test;
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((each) => each.close()));
});
afterAll(removeScratch);

/** A service that stopped writing says so as it ends, too. */
async function closeStopped(): Promise<void> {
  running.splice(0);
  await expect(test.close()).rejects.toThrow();
  expect(verify()).toMatchObject({ code: 1, output: expect.stringContaining('altered: ') });
}

const alarm = (text: string | RegExp) => expect.poll(() => test.log(), { timeout: 20_000 }).toMatch(text);
const verify = () => warifu('audit', 'verify', '--data', test.folder);

/** A row as the record has it. */
function rowOf<T>(file: string, sql: string, ...values: string[]): T {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return database.prepare(sql).get(...values) as T;
  } finally {
    database.close();
  }
}

describe('an attacker with write access while the service runs', () => {
  it('sets a row back, makes a reader an administrator, drops checkpoints: alarms that end when it is undone', async () => {
    const { folder, api } = await start();
    const { record, checkpoints } = layout(folder);
    const holder = await issueCard(api);
    const { fingerprint, client } = await addClient(test, 'reader', { roles: ['reader'] });
    await client.close();
    const good = rowOf<Row<'certificate'>>(
      record,
      "SELECT * FROM certificate WHERE mediumId = ? AND kind = 'card-signing'",
      `card:${holder.cardId}`,
    );
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    const held = rowOf<Row<'certificate'>>(
      record,
      'SELECT * FROM certificate WHERE authority = ? AND position = ?',
      good.authority,
      String(good.position),
    );
    const setState = (row: Row<'certificate'>): void =>
      alter(
        record,
        'UPDATE certificate SET state = ?, version = ?, heldBy = ? WHERE authority = ? AND position = ?',
        row.state,
        row.version,
        row.heldBy as string,
        row.authority,
        row.position,
      );
    const setRoles = (roles: string): void =>
      alter(record, 'UPDATE client SET roles = ? WHERE fingerprint = ?', roles, fingerprint);
    setState(good);
    setRoles('["administrator"]');
    await alarm(/ALARM: the record was altered.*/);
    expect(test.log()).toMatch(/row \[\\"certificate\\",.*it is not as its last entry left it/);
    expect(verify()).toMatchObject({
      code: 1,
      output: expect.stringContaining('altered: row ["certificate"'),
    });
    setState(held);
    await alarm(/row \[\\"client\\",.*it is not as its last entry left it/);
    const health = await api.get<{ warnings: { kind: string }[] }>('/health');
    expect(health.body.warnings.map(({ kind }) => kind)).toContain('record-altered');
    setRoles('["reader"]');
    await alarm(/the record is again as it was written/);

    await expect.poll(() => existsSync(checkpoints), { timeout: 5000 }).toBe(true);
    renameSync(checkpoints, `${checkpoints}.away`);
    await alarm(/ALARM: checkpoints are missing that were signed/);
    expect(verify().output).toMatch(/altered: checkpoint .*the token remembers a checkpoint/);
    renameSync(`${checkpoints}.away`, checkpoints);
    expect(verify()).toMatchObject({ code: 0 });
  }, 60_000);

  it('alters an entry, or removes one, in the middle of the chain: an alarm', async () => {
    const { folder, api } = await start();
    const { record } = layout(folder);
    await issueCard(api);
    // After a pass in which it was right.
    await new Promise((done) => setTimeout(done, 3000));
    alter(record, "UPDATE audit SET acts = replace(acts, 'node', 'nobody') WHERE sequence = 5");
    await alarm(/ALARM: the record was altered.*/);
    expect(test.log()).toMatch(/entry [^ ]+\/5: its hash is not that of its content/);
    expect(verify()).toMatchObject({ code: 1, output: expect.stringContaining('altered: entry') });
    const copy = join(scratch(), 'copy.db');
    expect(warifu('backup', copy, '--data', folder)).toMatchObject({
      code: 1,
      output: expect.stringContaining('the record was altered, and with it the copy'),
    });
  }, 60_000);

  it('cuts the end of the chain off: an alarm, and nothing is written any more', async () => {
    const { folder, api } = await start();
    const { record } = layout(folder);
    await issueCard(api);
    alter(record, 'DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)');
    await alarm(/ALARM: the record cannot be written/);
    expect(test.log()).toMatch(/the record was altered: audit entry n?[^ ]*\/\d+ is gone/);
    const { status, body } = await api.post<{ title: string }>('/events', { event: 'died', holderId: 'x' });
    expect([status, body.title]).toEqual([503, 'record-unavailable']);
    await closeStopped();
  }, 60_000);

  it('rewrites a row, its entry and all later hashes: an alarm, no further checkpoint, no further write', async () => {
    const { folder, api } = await start();
    const { record, checkpoints } = layout(folder);
    const { fingerprint, client } = await addClient(test, 'reader', { roles: ['reader'] });
    await client.close();
    await issueCard(api);
    await expect.poll(() => existsSync(checkpoints), { timeout: 5000 }).toBe(true);
    rewriteChain(record, (entry, database) => {
      const named = [...rowsOfEntry(entry)].findIndex(
        ({ table, key, before }) => table === 'client' && key[0] === fingerprint && before === null,
      );
      if (named < 0) return undefined;
      database
        .prepare('UPDATE client SET roles = ? WHERE fingerprint = ?')
        .run('["administrator"]', fingerprint);
      const row = database
        .prepare('SELECT * FROM client WHERE fingerprint = ?')
        .get(fingerprint) as unknown as Row<'client'>;
      const digests = Buffer.from(entry.digests);
      digests.set(rowDigest('client', row), (2 * named + 1) * 32);
      return { digests };
    });
    const before = readFileSync(checkpoints, 'utf8');
    await alarm(/ALARM: the record cannot be written/);
    expect(test.log()).toMatch(/the record was altered: audit entry [^ ]+\/\d+ is another/);
    await alarm(/ALARM: the audit chain is not the one that was signed; it is signed no more/);
    expect(readFileSync(checkpoints, 'utf8').startsWith(before)).toBe(true);
    expect(verify()).toMatchObject({
      code: 1,
      output: expect.stringMatching(/altered: entry .*this CA did not write it/),
    });
    await closeStopped();
  }, 60_000);

  it('adds an entry that follows, with all hashes right, for an administrator of their own: an alarm', async () => {
    const { folder, api } = await start();
    const { record } = layout(folder);
    await issueCard(api);
    const database = new DatabaseSync(record, { timeout: 5000 });
    const last = database
      .prepare('SELECT * FROM audit ORDER BY sequence DESC LIMIT 1')
      .get() as unknown as Row<'audit'>;
    // Their own key: the CA's is wrapped by the token.
    const mac = new AuditKey(new Uint8Array(32)).authenticate(last.hash);
    const columns = Object.keys(last).map((name) => `"${name}"`);
    const next = { ...last, sequence: last.sequence + 1, previousHash: last.hash, mac };
    const entry = { ...next, hash: entryHash(next) };
    database
      .prepare(`INSERT INTO audit (${columns.join()}) VALUES (${columns.map(() => '?').join()})`)
      .run(...(Object.values(entry) as string[]));
    database.close();
    await alarm(/ALARM: the record cannot be written/);
    expect(test.log()).toMatch(/the record was altered: audit entry [^ ]+\/\d+: this CA did not write it/);
    await closeStopped();
  }, 60_000);
});

describe('an attacker with write access while the service is stopped', () => {
  it('sets a row back: an alarm soon after the start', async () => {
    const first = await start();
    const { record } = layout(first.folder);
    const { fingerprint, client } = await addClient(first, 'reader', { roles: ['reader'] });
    await client.close();
    await first.close();
    running.splice(0);
    alter(record, 'UPDATE client SET roles = ? WHERE fingerprint = ?', '["administrator"]', fingerprint);
    test = await startTestService({ folder: first.folder });
    running.push(test);
    await alarm(/ALARM: the record was altered.*/);
    expect(test.log()).toMatch(/row \[\\"client\\"/);
  }, 60_000);

  const refusals = {
    'takes the key of the audit chain away': [
      "DELETE FROM dataKey WHERE name = 'audit'",
      'has lost its key: audit',
    ],
    'calls the record one of schema 3, to have its rows believed': [
      "UPDATE meta SET value = '3' WHERE name = 'schema'",
      'the token remembers schema 4',
    ],
    'calls the record a new one': ["DELETE FROM meta WHERE name = 'schema'", 'has lost its schema'],
    'gives the record another name': [
      "UPDATE meta SET value = '00000000-0000-4000-8000-000000000000' WHERE name = 'incarnation'",
      'token',
    ],
  } as const;
  for (const [what, [sql, says]] of Object.entries(refusals)) {
    it(`${what}: the service does not start`, async () => {
      const first = await start();
      const { record } = layout(first.folder);
      await first.close();
      running.splice(0);
      alter(record, sql);
      await expect(startTestService({ folder: first.folder })).rejects.toMatchObject({
        code: 'record-unavailable',
        message: expect.stringContaining(says),
      });
    }, 60_000);
  }
});
