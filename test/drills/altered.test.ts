import { cpSync, existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { layout } from '../../ca/node/layout.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { schema3Hash } from '../../store/audit/schema-3.ts';
import { entryHash, rowsOfEntry } from '../../store/engine/audit-entry.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { keyValues, rowDigest } from '../../store/schema/digest.ts';
import { type Row, type TableName, tables } from '../../store/schema/schema.ts';
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
    alter(record, "UPDATE audit SET acts = replace(acts, 'node', 'other') WHERE sequence = 5");
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
      const digests = Buffer.from(entry.digests);
      const named = [...rowsOfEntry({ ...entry, digests })].find(
        ({ table, key, before }) => table === 'client' && key[0] === fingerprint && before === null,
      );
      if (!named) return undefined;
      database
        .prepare('UPDATE client SET roles = ? WHERE fingerprint = ?')
        .run('["administrator"]', fingerprint);
      const row = database
        .prepare('SELECT * FROM client WHERE fingerprint = ?')
        .get(fingerprint) as unknown as Row<'client'>;
      // Within `digests`.
      named.after?.set(rowDigest('client', row));
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

describe('an attacker who knows what is looked at', () => {
  it('cuts the end off with all that it wrote, and puts an entry of schema 3 in its place: an alarm, then and later', async () => {
    const { folder, api } = await start();
    const { record } = layout(folder);
    await issueCard(api);
    const database = new DatabaseSync(record, { timeout: 5000 });
    const rows = (name: string) =>
      database.prepare(`SELECT * FROM ${name}`).all() as unknown as Record<string, string>[];
    const [before, entries] = [rows('holder'), rows('audit').length];
    await api.post('/events', { event: 'guardianship-began', holderId: 'stranger' });
    const added = rows('audit').slice(entries);
    const names = ['holder', 'standing', 'lifeEvent', 'request', 'event'] as const;
    expect(added).toHaveLength(1);
    const [entry] = added as unknown as Row<'audit'>[];
    for (const { table, key } of rowsOfEntry(entry as Row<'audit'>)) {
      expect(names).toContain(table);
      const columns = (tables[table] as { key: readonly string[] }).key;
      const where = columns.map((name) => `"${name}" = ?`).join(' AND ');
      database.prepare(`DELETE FROM "${table}" WHERE ${where}`).run(...key);
    }
    expect(rows('holder')).toEqual(before);
    database.prepare('DELETE FROM audit WHERE sequence = ?').run(entry?.sequence ?? 0);
    database
      .prepare('INSERT INTO auditOfSchema3 VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?)')
      .run('n1', entry?.sequence ?? 0, '{}', 'x', '{}', '[]', new Uint8Array(32), entry?.hash as Uint8Array);
    await alarm(/ALARM: the record cannot be written/);
    expect(test.log()).toMatch(/audit entry n1\/\d+ is gone/);
    database.exec('DELETE FROM auditOfSchema3');
    database.close();
    // Rows and entries agree: what the service knew of the chain was signed.
    await closeStopped();
    await expect(startTestService({ folder })).rejects.toMatchObject({
      code: 'record-unavailable',
      message: expect.stringMatching(/is gone|the record ends at event/),
    });
  }, 60_000);

  const hidden = {
    'adds a trigger': [
      'CREATE TRIGGER t AFTER INSERT ON client BEGIN DELETE FROM client; END',
      /database integrity: not defined by this software: CREATE TRIGGER/,
    ],
    'puts a value in a row that cannot be read': [
      'UPDATE lease SET leasedMs = 1152921504606846976',
      /row lease: a row cannot be read/,
    ],
  } as const;
  for (const [what, [sql, says]] of Object.entries(hidden)) {
    it(`${what}: an alarm`, async () => {
      const { folder } = await start();
      const database = new DatabaseSync(layout(folder).record, { timeout: 5000 });
      database.exec(sql);
      database.close();
      await alarm(/ALARM: the record was altered.*/);
      expect(test.log()).toMatch(says);
      expect(verify()).toMatchObject({ code: 1, output: expect.stringMatching(/altered: /) });
    }, 60_000);
  }

  it('makes a backup of schema 3 out of what they like: restore lists that nothing signed covers it', async () => {
    const { folder, api } = await start();
    await issueCard(api);
    await test.close();
    running.splice(0);
    const forged = join(scratch(), 'forged.db');
    cpSync(layout(folder).record, forged);
    forgeSchema3(forged);
    const { code, output } = warifu('restore', forged, '--data', folder);
    expect([code, output]).toEqual([
      1,
      expect.stringMatching(
        /proof of the audit entries 1 to 1 of the backup: no signed checkpoint covers them/,
      ),
    ]);
  }, 60_000);
});

/** Makes a record of schema 3 of one of today: one entry that lists all rows as they are. */
function forgeSchema3(file: string): void {
  const database = new DatabaseSync(file);
  database.exec(
    "DELETE FROM dataKey WHERE name = 'audit'; DELETE FROM clientIdentity; DELETE FROM issuance; UPDATE meta SET value = '3' WHERE name = 'schema'",
  );
  const changes: unknown[] = [];
  for (const table of Object.keys(tables) as TableName[]) {
    if (table === 'audit' || table === 'auditOfSchema3') continue;
    for (const row of database.prepare(`SELECT * FROM "${table}"`).all())
      changes.push([table, keyValues(table, row as never), hex(rowDigest(table, row as never)).slice(0, 32)]);
  }
  const entry = {
    writer: 'n1',
    sequence: 1,
    atMs: 0,
    actor: '{}',
    action: 'open',
    subject: '{}',
    changes: JSON.stringify(changes),
    previousHash: new Uint8Array(32),
  };
  database.exec('DROP TABLE audit; ALTER TABLE auditOfSchema3 RENAME TO audit; DELETE FROM audit');
  database
    .prepare('INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
    .run(...Object.values(entry), schema3Hash(entry));
  database.close();
}

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
      'the token remembers schema 7',
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
