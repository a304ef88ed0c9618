import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { auditRecord } from '../../ca/node/audit.ts';
import { eraseYearOf } from '../../ca/node/guarded-acts.ts';
import { layout } from '../../ca/node/layout.ts';
import { restoreRecord } from '../../ca/node/maintenance.ts';
import { openNode } from '../../ca/node/wiring.ts';
import { verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { type TableName, tables } from '../../store/schema/schema.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { askOcsp, cardRequest, derOf, fetchCrl, makeChipKey, ocspRequest, pemOf } from '../support/actors.ts';
import {
  dataFolder,
  fileOf,
  issueCard,
  issuePhone,
  ManualClock,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// What happens to the record itself: audit, backup, restore, generations.

afterAll(removeScratch);

const main = new URL('../../ca/main.ts', import.meta.url).pathname;
const warifu = async (...args: string[]): Promise<{ code: number; output: string }> => {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, ...args]);
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, output: stdout + stderr };
  }
};

async function status(test: TestService, issued: Issued, kind: string): Promise<string> {
  const certificate = issued.certificates.find((candidate) => candidate.kind === kind);
  const ca = await fetchCrl(`${test.service.addresses.crl}/ca/${certificate?.authority}.cer`);
  const response = await askOcsp(
    test.service.addresses.ocsp,
    await ocspRequest(derOf(pemOf(issued, kind)), ca),
  );
  return (
    /Cert Status: (\w+)/.exec(openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text'))?.[1] ??
    'none'
  );
}

describe('the audit chain', () => {
  it('is verified by a command, which names what was altered, in any table and column', async () => {
    const test = await startTestService();
    const holder = await issueCard(test.api);
    await issuePhone(test.api, holder);
    await test.api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    await test.close();
    const { folder } = test;
    const good = await warifu('audit', 'verify', '--data', folder);
    expect(good.output).toMatch(/entries and \d+ rows are as they were written/);
    expect(good.code).toBe(0);

    const { record } = layout(folder);
    const database = new DatabaseSync(record);
    const node = await openNode({ folder, clock: new ManualClock(), mode: 'open' });
    const verify = async () => (await auditRecord(node)).finding;
    expect(await verify()).toBeUndefined();
    for (const table of Object.keys(tables) as TableName[]) {
      const [row] = database.prepare(`SELECT rowid_.* FROM "${table}" rowid_ LIMIT 1`).all() as Record<
        string,
        unknown
      >[];
      if (!row) continue;
      const { columns, key } = tables[table] as { columns: Record<string, string>; key: readonly string[] };
      for (const [column, type] of Object.entries(columns)) {
        const before = row[column];
        const altered = type.startsWith('integer')
          ? Number(before ?? 0) + 10_000_019
          : type.startsWith('blob')
            ? Buffer.from('altered')
            : `${before ?? ''}x`;
        const where = key.map((name) => `"${name}" = ?`).join(' AND ');
        const keyOf = (source: Record<string, unknown>) => key.map((name) => source[name]) as string[];
        const set = database.prepare(`UPDATE "${table}" SET "${column}" = ? WHERE ${where}`);
        set.run(altered as string, ...keyOf(row));
        expect(await verify(), `${table}.${column}`).toBeDefined();
        set.run(before as string, ...keyOf({ ...row, [column]: altered }));
      }
      expect(await verify(), table).toBeUndefined();
    }
    // A row that vanishes, and one that appears, are found too.
    database.exec(`DELETE FROM "holderTown"`);
    expect(await verify()).toMatchObject({ type: 'row', what: 'a row that was written is gone' });
    database.exec(`INSERT INTO "holderTown" VALUES ('${holder.holderId}', '13113', 0)`);
    expect(await verify()).toMatchObject({ type: 'row', what: 'it is not as its last entry left it' });
    await node.close();
    database.close();
    const bad = await warifu('audit', 'verify', '--data', folder);
    expect(bad.code).toBe(1);
    expect(bad.output).toContain('altered: row ["holderTown"');
  });

  it('finds any byte flipped in the file that changes what the record says', async () => {
    const test = await startTestService();
    await issueCard(test.api);
    await test.close();
    const { record } = layout(test.folder);
    const node = await openNode({ folder: test.folder, clock: new ManualClock(), mode: 'open' });
    const key = new AuditKey(node.auditKey);
    await node.close();
    // One file: what the write-ahead log held is in it since the service closed.
    const whole = readFileSync(record);
    const file = join(scratch(), 'flipped.db');
    /** Everything the record says, table by table; or that it cannot be read. */
    const everything = async (): Promise<string> => {
      const database = openSqlite({ file, writer: 'n1', clock: new ManualClock() });
      try {
        const found = (await verifyAudit(database, [], key)).finding;
        if (found) return 'altered';
        const rows = await database.read((reader) =>
          Promise.all((Object.keys(tables) as TableName[]).map((table) => reader.find(table, {}))),
        );
        return JSON.stringify(rows);
      } finally {
        await database.close();
      }
    };
    writeFileSync(file, whole);
    const before = await everything();
    let found = 0;
    for (let i = 0; i < 150; i++) {
      const flipped = Buffer.from(whole);
      const at = Math.floor((i + Math.random()) * (whole.length / 150));
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (i & 7));
      writeFileSync(file, flipped);
      const says = await everything().catch(() => 'unreadable');
      if (says === before) continue;
      expect(['altered', 'unreadable'], `octet ${at}`).toContain(says);
      found += 1;
    }
    expect(found).toBeGreaterThan(10);
  });

  it('cannot be cut off behind a signed checkpoint, nor the checkpoint forged', async () => {
    const test = await startTestService();
    await issueCard(test.api);
    await test.close();
    const { checkpoints, record } = layout(test.folder);
    const lines = readFileSync(checkpoints, 'utf8').trim().split('\n');
    const last = JSON.parse(lines.at(-1) ?? '{}') as { sequence: number; at: string };
    expect(last.sequence).toBeGreaterThan(5);
    expect(test.log()).toContain('audit checkpoint');
    const database = new DatabaseSync(record);
    database.prepare('DELETE FROM "audit" WHERE "sequence" >= ?').run(last.sequence);
    database.close();
    expect((await warifu('audit', 'verify', '--data', test.folder)).output).toContain(
      'before a signed checkpoint',
    );
    writeFileSync(checkpoints, JSON.stringify({ ...last, sequence: 1 }));
    expect((await warifu('audit', 'verify', '--data', test.folder)).output).toContain(
      'not signed by this CA',
    );
  });
});

describe('a record that is older than what was done with it', () => {
  it('is not started from', async () => {
    const test = await startTestService();
    const { folder, service, clock } = test;
    const holder = await issueCard(test.api);
    await test.close();
    const copy = join(scratch(), 'copy.db');
    copyFileSync(layout(folder).record, copy);
    const second = await startTestService({ folder, clock });
    await second.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    await second.close();
    copyFileSync(copy, layout(folder).record);
    await expect(startTestService({ folder, clock })).rejects.toMatchObject({ code: 'record-unavailable' });
    expect(service.ca.config.node).toBe('n1');
  });
});

describe('backup and restore', () => {
  it('brings back a record that forgets no revocation and numbers nothing twice', async () => {
    const folder = await dataFolder();
    const test = await startTestService({ folder });
    const returned = await issueCard(test.api);
    const kept = await issueCard(test.api);
    const { phone } = await issuePhone(test.api, returned);
    const backup = join(scratch(), 'backup.db');
    expect(await warifu('backup', backup, '--data', folder)).toMatchObject({ code: 0 });

    // After the backup: a revocation with its cascade, a new issuance, and one that is revoked at once.
    await test.api.post('/events', { event: 'card-returned', cardId: returned.cardId });
    const later = await issueCard(test.api);
    const gone = await issueCard(test.api, { municipalityCode: '27128' });
    await test.api.post('/events', { event: 'card-returned', cardId: gone.cardId });
    await test.close();

    const paths = layout(folder);
    const report = await restoreRecord({ layout: paths, backup, journals: [paths.journal] });
    expect(report).toMatchObject({ changed: 4, lost: [] });
    expect(report.adopted).toHaveLength(4);
    // As a process leaves it that dies as it puts the record in place: the token has learned of it, files are half renamed.
    const interrupt = (): void => {
      const replaced = readdirSync(folder).filter((name) => /^record\.db\.replaced-\d+$/.test(name));
      renameSync(paths.record, `${paths.record}.restoring`);
      renameSync(join(folder, replaced.at(-1) ?? ''), paths.record);
      writeFileSync(`${paths.record}.restored`, JSON.stringify({ remember: [], atMs: Date.now() }));
    };
    interrupt();
    await expect(restoreRecord({ layout: paths, backup, journals: [paths.journal] })).rejects.toMatchObject({
      code: 'bad-request',
      message: expect.stringContaining('is finished now'),
    });
    interrupt();

    const again = await startTestService({ folder, clock: test.clock });
    for (const kind of ['card-signing', 'card-authentication']) {
      expect(await status(again, returned.card, kind)).toBe('revoked');
      expect(await status(again, gone.card, kind)).toBe('revoked');
      expect(await status(again, kept.card, kind)).toBe('good');
      expect(await status(again, later.card, kind)).toBe('good');
    }
    expect(await status(again, phone, 'phone-signing')).toBe('revoked');
    const fresh = await issueCard(again.api);
    expect(fresh.card.certificates.map(({ serialNumber }) => serialNumber.slice(0, 2))).toEqual(['02', '02']);
    const { body } = await again.api.get<{ entries: { cause: { event: string } }[] }>(
      `/holders/${returned.holderId}/history`,
    );
    expect(body.entries.at(-1)?.cause.event).toBe('reconciled');
    // What was issued since the backup has no holder on record; it can be revoked all the same.
    const { authority, serialNumber } = later.card.certificates[0] ?? {};
    const path = `/certificates/${authority}/${serialNumber}/changes`;
    expect((await again.api.post(path, { action: 'revoke', reason: 'keyCompromise' })).status).toBe(200);
    expect(await status(again, later.card, 'card-signing')).toBe('revoked');
    await again.close();
    expect((await warifu('audit', 'verify', '--data', folder)).code).toBe(0);

    // The record from before the restore is not started from again.
    const replaced =
      (await promisify(execFile)('sh', ['-c', `ls ${paths.record}.replaced-*`])).stdout
        .trim()
        .split('\n')[0] ?? '';
    copyFileSync(replaced, paths.record);
    await expect(startTestService({ folder, clock: test.clock })).rejects.toMatchObject({
      code: 'record-unavailable',
    });
  });

  it('refuses a backup that was altered, or files that are not there, and replaces nothing', async () => {
    const test = await startTestService();
    await issueCard(test.api);
    const { folder } = test;
    const paths = layout(folder);
    const backup = join(scratch(), 'backup.db');
    expect((await warifu('backup', backup, '--data', folder)).code).toBe(0);
    await test.close();
    const intact = join(scratch(), 'intact.db');
    copyFileSync(backup, intact);
    const database = new DatabaseSync(backup);
    database.exec(`UPDATE "certificate" SET "state" = 'good', "reason" = 'x'`);
    database.close();
    const refused = await warifu('restore', backup, '--data', folder, '--journal', paths.journal);
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining('the backup was altered') });
    expect((await warifu('restore', backup, '--data', folder, '--journal', '/none')).output).toContain(
      'no file /none',
    );
    // A journal of another CA, and one that speaks of an epoch the backup does not have.
    const whole = readFileSync(paths.journal, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const restoreWith = async (alter: (line: (typeof whole)[number]) => object): Promise<string> => {
      const journal = fileOf(
        `${whole.map((line) => JSON.stringify({ ...line, ...alter(line), proof: undefined })).join('\n')}\n`,
        'journal',
      );
      const given = ['--journal', journal, '--accept-unproven'];
      return (await warifu('restore', intact, '--data', folder, ...given)).output;
    };
    const foreign = await restoreWith(({ cursor }) => ({ cursor: { ...cursor, incarnation: 'foreign' } }));
    expect(foreign).toContain('which the token does not know');
    const later = await restoreWith(({ events, cursor: { incarnation, positions } }) => ({
      cursor: { incarnation, positions: { n1: positions.n1 + 1000 } },
      events: events.map((event: object) => ('epoch' in event ? { ...event, epoch: 9 } : event)),
    }));
    expect(later).toContain('would lack the certificates of epoch 9');
    // After every refusal the record there was is started from as before.
    const again = await startTestService({ folder });
    await again.close();
    expect(existsSync(paths.record)).toBe(true);
  });
});

describe('sealed data', () => {
  it('is in the clear in no file, while the service runs, after it was killed, and in its log', async () => {
    const folder = await dataFolder();
    const test = await startTestService({ folder });
    const holder = await issueCard(test.api);
    await issuePhone(test.api, holder);
    const grep = async () =>
      (await promisify(execFile)('sh', ['-c', `grep -rlaE '花子|渋谷区例町|419900401' ${folder} || true`]))
        .stdout;
    // The write-ahead log is there while the service runs.
    expect(existsSync(`${layout(folder).record}-wal`)).toBe(true);
    expect(await grep()).toBe('');
    expect(test.log()).not.toMatch(/花子|渋谷/);
    await test.close();
    expect(await grep()).toBe('');
  });

  it('of a year that is over is erased with its key; status, audit and uniqueness stay', async () => {
    const folder = await dataFolder();
    const test = await startTestService({ folder });
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const { body: issued } = await test.api.post<Issued>('/card-certificates', cardRequest(keys));
    await test.api.post('/events', { event: 'card-returned', cardId: 'card-1' });
    await test.close();
    const year = new Date(issued.certificates[0]?.notAfter ?? '').getUTCFullYear();
    expect((await warifu('erase-year', String(year), '--data', folder)).output).toContain(
      'not a year that is over',
    );
    const clock = new ManualClock();
    clock.advance(10 * 365 * 86_400_000);
    const node = await openNode({ folder, clock, mode: 'open' });
    const certified = () => node.database.read((reader) => reader.scan('publicKey', { limit: 100 }));
    const before = await certified();
    await eraseYearOf(node, year, []);
    expect(await certified()).toEqual(before);
    expect((await auditRecord(node)).finding).toBeUndefined();
    await node.close();

    const again = await startTestService({ folder, clock: test.clock });
    const { authority, serialNumber } = issued.certificates[0] ?? {};
    const { body } = await again.api.get<{ certificate: string | null; status: { state: string } }>(
      `/certificates/${authority}/${serialNumber}`,
    );
    expect(body).toMatchObject({ certificate: null, status: { state: 'revoked' } });
    expect(await status(again, issued, 'card-signing')).toBe('revoked');
    // Who issued and revoked it, and at which desk, is still to be read.
    const { body: history } = await again.api.get<{ entries: { change: string; actor: object }[] }>(
      `/certificates/${authority}/${serialNumber}/history`,
    );
    const { body: known } = await again.api.get<{ clients: { clientId: string }[] }>('/clients');
    const client = known.clients[0]?.clientId;
    expect(history.entries.map(({ actor }) => actor)).toEqual([
      { client, role: 'issuer', requestId: expect.any(String), desk: 'DESK00001' },
      { client, role: 'revoker', requestId: expect.any(String) },
    ]);
    // Something was written ten years from now: a clock of today is behind, and nothing is issued by it.
    const same = cardRequest(keys, { holderId: 'other', cardId: 'other', cardExpiresOn: '2029-01-01' });
    expect(await again.api.post('/card-certificates', same)).toMatchObject({
      status: 503,
      body: { title: 'clock-unreliable' },
    });
    await again.close();
  });
});

describe('a new generation', () => {
  it('issues P-384 certificates for P-384 keys, while the old one issues for RSA keys and answers for its own', async () => {
    const folder = await dataFolder();
    const test = await startTestService({ folder });
    const old = await issueCard(test.api);
    await test.close();
    const made = await warifu('generation', '--suite', 'p384-sha384', '--data', folder);
    expect(made.output).toMatch(/authentication-2 p384-sha384 sha256 [0-9a-f]{64}\nsigning-2 /);
    expect((await warifu('generation', '--suite', 'p256-sha256', '--data', folder)).code).toBe(1);

    const again = await startTestService({ folder, clock: test.clock });
    const p384 = async (): Promise<string> => {
      const key = fileOf(
        openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384').replace(
          /^[.+*\s]+/,
          '',
        ),
      );
      return openssl('req', '-new', '-sha384', '-key', key, '-subj', '/CN=x').replace(
        /-----[^-]+-----|\s/g,
        '',
      );
    };
    const body = cardRequest(
      {},
      { holderId: 'p384', cardId: 'p384', requests: { signing: await p384(), authentication: await p384() } },
    );
    const { body: issued, status: code } = await again.api.post<Issued>('/card-certificates', body);
    expect(code).toBe(201);
    expect(issued.certificates.map(({ authority }) => authority)).toEqual(['signing-2', 'authentication-2']);
    const text = openssl('x509', '-in', fileOf(pemOf(issued, 'card-signing')), '-noout', '-text');
    expect(text).toContain('ecdsa-with-SHA384');
    expect(text).toContain('/crl/card-signing/2/13113/0.crl');
    const ca = fileOf(
      openssl(
        'x509',
        '-inform',
        'DER',
        '-in',
        fileOf(await fetchCrl(`${again.service.addresses.crl}/ca/signing-2.cer`)),
      ),
    );
    expect(openssl('verify', '-x509_strict', '-CAfile', ca, fileOf(pemOf(issued, 'card-signing')))).toContain(
      'OK',
    );
    expect(await status(again, issued, 'card-signing')).toBe('good');
    expect(await status(again, old.card, 'card-signing')).toBe('good');
    const rsa = await issueCard(again.api);
    expect(rsa.card.certificates.map(({ authority }) => authority)).toEqual([
      'signing-1',
      'authentication-1',
    ]);
    await again.api.post('/events', { event: 'card-returned', cardId: 'p384' });
    await again.api.post('/events', { event: 'card-returned', cardId: old.cardId });
    expect(await status(again, issued, 'card-signing')).toBe('revoked');
    expect(await status(again, old.card, 'card-signing')).toBe('revoked');
    const mixed = cardRequest(
      { authentication: await makeChipKey() },
      { holderId: 'mixed', cardId: 'mixed' },
    );
    const answer = await again.api.post('/card-certificates', {
      ...mixed,
      requests: { ...mixed.requests, signing: await p384() },
    });
    expect(answer).toMatchObject({ status: 400, body: { title: 'invalid-key' } });
    await again.close();
  });
});
