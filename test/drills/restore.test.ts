import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { eraseYearOf } from '../../ca/node/guarded-acts.ts';
import { layout } from '../../ca/node/layout.ts';
import { openNode } from '../../ca/node/wiring.ts';
import type { FeedBatch } from '../../core/feed/feed.ts';
import { RemoteFeed } from '../../core/feed/remote-feed.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type Backend, TransactionQueue } from '../../store/engine/transactions.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import {
  askOcsp,
  cardRequest,
  derOf,
  fetchCrl,
  makeChipKey,
  namedClient,
  ocspRequest,
  pemOf,
} from '../support/actors.ts';
import { rewriteChain } from '../support/adversary.ts';
import {
  fileOf,
  type Holder,
  issueCard,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
  warifu,
} from '../support/harness.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';
import { writeRows } from '../support/store-commands.ts';
import { recordVerifier } from '../support/verifiers.ts';

// What was promised stays: whatever is lost, altered or put in the wrong place.

const running: ServiceProcess[] = [];
afterEach(async () => {
  for (const { child, exited } of running.splice(0)) {
    child.kill('SIGKILL');
    await exited;
  }
});
afterAll(removeScratch);

async function begin() {
  const folder = join(scratch(), 'data');
  const addresses = await configure(folder);
  const start = async (at = folder): Promise<ServiceProcess> => {
    const service = await startProcess(at, addresses);
    running.push(service);
    return service;
  };
  const service = await start();
  const api = namedClient(folder, addresses.api, 'first');
  const revoke = (holder: Holder) => api.post('/events', { event: 'card-returned', cardId: holder.cardId });
  const statusOf = async (holder: Holder): Promise<string> => {
    const ca = await fetchCrl(`${addresses.crl}/ca/signing-1.cer`);
    const answer = await askOcsp(
      addresses.ocsp,
      await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), ca),
    );
    return Buffer.from(answer).includes(Buffer.from('a111180f', 'hex')) ||
      Buffer.from(answer).includes(Buffer.from('a116180f', 'hex'))
      ? 'revoked'
      : answer.length > 100
        ? 'good'
        : 'none';
  };
  return { folder, addresses, service, start, api, revoke, statusOf };
}

const seconds = (n: number): Promise<void> => new Promise((done) => setTimeout(done, n * 1000));

describe('a restore', () => {
  it('by a journal that ends before what the token remembers is refused, and says what would be lost', async () => {
    const { folder, service, start, api, revoke, statusOf } = await begin();
    const holder = await issueCard(api);
    const backup = join(scratch(), 'backup.db');
    expect(warifu('backup', backup, '--data', folder).output).toContain('covered: record.db');
    const journal = join(scratch(), 'old.ndjson');
    copyFileSync(join(folder, 'ocsp', 'journal.ndjson'), journal);
    await revoke(holder);
    expect(await statusOf(holder)).toBe('revoked');
    await service.stop();
    const refused = warifu('restore', backup, '--journal', journal, '--data', folder);
    expect(refused.code).toBe(1);
    expect(refused.output).toMatch(/would lack events \d+ to \d+ of n1.*--accept-loss/);
    expect(readdirSync(folder).filter((name) => name.includes('restoring'))).toEqual([]);
    // With all that is known nothing is lost.
    const whole = warifu('restore', backup, '--data', folder);
    expect(whole).toMatchObject({ code: 0, output: expect.not.stringContaining('lost:') });
    const again = await start();
    expect(await statusOf(holder)).toBe('revoked');
    await again.stop();
    const accepted = warifu('restore', backup, '--journal', journal, '--accept-loss', '--data', folder);
    expect(accepted).toMatchObject({ code: 0, output: expect.stringMatching(/lost: events/) });
    await api.close();
  }, 90_000);

  it('with a loss has what it says of verifiers count, whatever followers received before', async () => {
    const { folder, addresses, service, start, api } = await begin();
    const token = 'known-before-the-backup';
    const credentials = [{ type: 'token', sha256: hex(digest('sha256', token)) }];
    const { verifierId } = await recordVerifier(api, { credentials });
    const backup = join(scratch(), 'backup.db');
    expect(warifu('backup', backup, '--data', folder).code).toBe(0);
    const journal = join(scratch(), 'old.ndjson');
    copyFileSync(join(folder, 'ocsp', 'journal.ndjson'), journal);
    const facts = { type: 'private', kinds: ['signing', 'authentication'], purposes: [] };
    for (let i = 0; i < 3; i += 1)
      await api.post(`/verifiers/${verifierId}`, { ...facts, name: `Bank ${i}` });
    await service.stop();
    const lossy = ['--journal', journal, '--accept-loss'];
    expect(warifu('restore', backup, ...lossy, '--data', folder).code).toBe(0);
    await start();
    const statuses = async () =>
      Promise.all(
        [`${addresses.crl}/v/${token}/crl/index.json`, `${addresses.ocsp}/v/${token}/MA`].map(
          async (url) => (await fetch(url)).status,
        ),
      );
    expect(await statuses()).toEqual([200, 200]);
    await api.post(`/verifiers/${verifierId}/suspension`, undefined);
    expect(await statuses()).toEqual([403, 403]);
    await api.close();
  });

  it('reopens no holder who died since the backup', async () => {
    const { folder, service, start, api } = await begin();
    const [dead, alive] = [await issueCard(api), await issueCard(api)];
    const backup = join(scratch(), 'backup.db');
    warifu('backup', backup, '--data', folder);
    expect((await api.post('/events', { event: 'died', holderId: dead.holderId })).status).toBe(200);
    await api.post('/events', { event: 'moved', holderId: alive.holderId });
    await service.stop();
    const restored = warifu('restore', backup, '--data', folder);
    expect(restored).toMatchObject({ code: 0, output: expect.stringContaining('1 rows of standing') });
    await start();
    const again = async ({ holderId, cardId }: Holder) => {
      const signing = await makeChipKey();
      return api.post('/card-certificates', cardRequest({ signing }, { holderId, cardId }));
    };
    expect(await again(dead)).toMatchObject({ status: 409, body: { title: 'holder-closed' } });
    expect((await again(alive)).status).toBe(201);
    // As before the restore: of one who died only a correction is the way back.
    const returned = await api.post('/events', { event: 'returned-to-register', holderId: dead.holderId });
    expect(returned).toMatchObject({ status: 409, body: { title: 'holder-closed' } });
    await api.close();
  }, 90_000);

  it('onto an empty machine, from the backup alone, brings back all it covers', async () => {
    const { folder, service, start, api, revoke, statusOf } = await begin();
    const [good, gone] = [await issueCard(api), await issueCard(api)];
    await revoke(gone);
    const backup = join(scratch(), 'backup.db');
    const { code, output } = warifu('backup', backup, '--data', folder);
    expect([code, output]).toEqual([0, expect.stringMatching(/covered: softhsm[\s\S]*covered: secrets/)]);
    for (const again of [backup, `${backup}`])
      expect(warifu('backup', again, '--data', folder)).toMatchObject({
        code: 1,
        output: expect.stringMatching(/nothing is overwritten/),
      });
    expect(statSync(backup).mode & 0o077).toBe(0);
    expect(statSync(`${backup}.files`).mode & 0o077).toBe(0);
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
    const other = join(scratch(), 'other');
    expect(warifu('restore', backup, '--data', other)).toMatchObject({
      code: 0,
      output: expect.not.stringContaining('lost:'),
    });
    await start(other);
    expect([await statusOf(good), await statusOf(gone)]).toEqual(['good', 'revoked']);
    // The client's certificate, the addresses and the TLS of before are those of now.
    expect((await issueCard(api)).card.certificates).toHaveLength(2);
    expect(warifu('audit', 'verify', '--data', other).code).toBe(0);
    await api.close();
  }, 90_000);

  it('onto an empty machine refuses journals with a gap, also where its token remembers no more than the backup', async () => {
    const { folder, service, api, revoke } = await begin();
    const holder = await issueCard(api);
    const backup = join(scratch(), 'backup.db');
    expect(warifu('backup', backup, '--data', folder).code).toBe(0);
    const copied = readFileSync(join(folder, 'ocsp', 'journal.ndjson'), 'utf8');
    await revoke(holder);
    await issueCard(api);
    await service.stop();
    const whole = readFileSync(join(folder, 'ocsp', 'journal.ndjson'), 'utf8');
    const since = whole.slice(copied.length).trimEnd().split('\n');
    rmSync(folder, { recursive: true, force: true });
    const revoking = since.findIndex((line) => line.includes('"revoked"'));
    const journalOf = (lines: readonly string[]) => fileOf(`${lines.join('\n')}\n`, 'journal.ndjson');
    for (const lines of [since.filter((_, i) => i !== revoking), since.slice(revoking + 1)]) {
      const refused = warifu(
        'restore',
        backup,
        '--journal',
        journalOf(lines),
        '--data',
        join(scratch(), 'other'),
      );
      expect([refused.code, refused.output]).toEqual([
        1,
        expect.stringMatching(/would lack events \d+ to \d+ of n1/),
      ]);
    }
    const restored = warifu(
      'restore',
      backup,
      '--journal',
      journalOf(since),
      '--data',
      join(scratch(), 'right'),
    );
    expect(restored).toMatchObject({
      code: 0,
      output: expect.not.stringContaining('no journal goes beyond'),
    });
    const alone = warifu('restore', backup, '--data', join(scratch(), 'alone'));
    expect(alone).toMatchObject({
      code: 0,
      output: expect.stringContaining('no journal goes beyond the backup'),
    });
    await api.close();
  }, 90_000);

  it('of a backup whose chain was rewritten with valid hashes is refused', async () => {
    const { folder, service, api } = await begin();
    await issueCard(api);
    const backup = join(scratch(), 'backup.db');
    warifu('backup', backup, '--data', folder);
    await service.stop();
    let entries = 0;
    rewriteChain(backup, ({ acts }) => {
      entries += 1;
      return entries === 8 ? { acts: acts.replace('node', 'other') } : undefined;
    });
    expect(warifu('restore', backup, '--data', folder)).toMatchObject({
      code: 1,
      output: expect.stringMatching(/the backup was altered/),
    });
    await api.close();
  }, 60_000);

  it('brings back no year that was erased since', async () => {
    const test = await startTestService();
    const holder = await issueCard(test.api);
    await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    const { folder } = test;
    const backup = join(scratch(), 'backup.db');
    expect(warifu('backup', backup, '--data', folder).code).toBe(0);
    await test.close();
    const year = new Date(holder.card.certificates[0]?.notAfter ?? '').getUTCFullYear();
    const clock = new ManualClock();
    clock.advance(10 * 365 * 86_400_000);
    const node = await openNode({ folder, clock, mode: 'open' });
    await eraseYearOf(node, year, []);
    await node.close();
    expect(warifu('restore', backup, '--accept-loss', '--data', folder).code).toBe(0);
    const database = openSqlite({ file: layout(folder).record, writer: 'n1', clock: systemClock });
    const names = (await database.read((reader) => reader.find('dataKey', {}))).map(({ name }) => name);
    expect(names).not.toContain(`year:${year}`);
    expect(names).toContain('lookup');
    await database.close();
  }, 60_000);
});

describe('a record', () => {
  it('that lost its last seconds is noticed by the journal next to it', async () => {
    const { folder, service, api, revoke } = await begin();
    const holder = await issueCard(api);
    await seconds(6);
    const copy = join(scratch(), 'record.db');
    warifu('backup', copy, '--data', folder);
    await revoke(holder);
    // Before the token is updated again: power is gone, and with it what the disk said it had.
    service.child.kill('SIGKILL');
    await service.exited;
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${folder}/record.db${suffix}`, { force: true });
    copyFileSync(copy, join(folder, 'record.db'));
    const { code, output } = warifu('start', '--data', folder);
    expect(code).toBe(1);
    expect(output).toMatch(
      /warifu: record-unavailable: (the record ends at event \d+, and .*journal\.ndjson has received \d+|the record has lost events)/,
    );
    // Restored with that journal nothing is lost.
    expect(warifu('restore', copy, '--data', folder).code).toBe(0);
    await api.close();
  }, 60_000);

  it('whose disk broke settles every write, turn and close that waits, as record-unavailable', async () => {
    let syncs = 0;
    const nothing = (): void => undefined;
    const backend: Backend = {
      rows: {
        find: () => [],
        insert: () => undefined,
        get: () => undefined,
      } as unknown as Backend['rows'],
      begin: nothing,
      changedByOthers: () => false,
      commit: nothing,
      sync: async () => {
        syncs += 1;
        await seconds(0.05);
        throw Object.assign(new Error('EIO'), { broken: true });
      },
      rollback: nothing,
      read: async (body) => body({} as never),
      integrity: () => undefined,
      close: () => {
        throw Object.assign(new Error('EIO'), { broken: true });
      },
      translate: (error) =>
        (error as { broken?: boolean }).broken
          ? new PkiError('record-unavailable', 'the disk failed')
          : error,
    };
    const queue = new TransactionQueue({ backend, writer: 'n1', clock: systemClock });
    const write = () => writeRows(queue, (tx) => tx.insert('meta', { name: 'x', value: 'y' }));
    const waiting: Promise<unknown>[] = Array.from({ length: 300 }, write);
    await seconds(0.02);
    waiting.push(...Array.from({ length: 300 }, write));
    const settled = await Promise.race([Promise.allSettled(waiting), seconds(5)]);
    if (!settled) throw new Error('something waits for ever');
    const refused = settled.filter((each) => each.status === 'rejected');
    expect(refused.length).toBeGreaterThanOrEqual(600);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'record-unavailable' });
    await expect(write()).rejects.toMatchObject({ code: 'record-unavailable' });
    await expect(queue.close()).rejects.toMatchObject({ code: 'record-unavailable' });
    expect(syncs).toBe(1);
  });

  it('has a log that is short again once no reader stays long', async () => {
    const file = join(scratch(), 'record.db');
    const queue = openSqlite({ file, writer: 'n1', clock: systemClock });
    const reader = new DatabaseSync(file, { readOnly: true });
    reader.exec('BEGIN');
    reader.prepare('SELECT count(*) FROM meta').get();
    const write = async (from: number): Promise<void> => {
      for (let i = 0; i < 40; i++)
        await writeRows(queue, (tx) =>
          tx.insert('meta', { name: `${from}-${i}`, value: 'v'.repeat(4_000_000) }),
        );
    };
    await write(0);
    expect(statSync(`${file}-wal`).size).toBeGreaterThan(150_000_000);
    reader.exec('COMMIT');
    reader.close();
    for (let n = 1; n < 60 && statSync(`${file}-wal`).size > 70_000_000; n++) {
      await writeRows(queue, (tx) => tx.insert('meta', { name: `after-${n}`, value: 'v' }));
      await seconds(0.3);
    }
    expect(statSync(`${file}-wal`).size).toBeLessThan(70_000_000);
    await queue.close();
  }, 60_000);
});

describe('a follower', () => {
  it('that meets a stray 404 goes on; one whose record is another stops', async () => {
    const batch: FeedBatch = { events: [], cursor: { incarnation: 'i', positions: {} }, watermarkMs: 5 };
    const answers: ((answer: (status: number, type: string, body: string) => void) => void)[] = [
      (answer) => answer(404, 'text/html', '<h1>Not Found</h1>'),
      (answer) =>
        answer(
          404,
          'application/problem+json',
          JSON.stringify({
            type: 'urn:warifu:problem:not-found',
            title: 'not-found',
            detail: 'no such resource',
          }),
        ),
      (answer) => answer(404, 'application/json', 'null'),
      (answer) => answer(404, 'text/plain', ''),
      (answer) => answer(200, 'application/x-ndjson', `${JSON.stringify(batch)}\n`),
      (answer) =>
        answer(
          404,
          'application/problem+json',
          JSON.stringify({ type: 'urn:warifu:problem:foreign-cursor', detail: 'another record' }),
        ),
    ];
    const server = createServer((_request, response) => {
      const next = answers.shift();
      next?.((status, type, body) => response.writeHead(status, { 'Content-Type': type }).end(body));
      if (!next) response.destroy();
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as { port: number };
    const [interrupted, foreign]: [string[], string[]] = [[], []];
    const feed = new RemoteFeed({
      url: `http://127.0.0.1:${port}`,
      tls: { key: '', cert: '', ca: '' },
      alarm: { interrupted: (reason) => interrupted.push(reason), foreign: (reason) => foreign.push(reason) },
    });
    const received: FeedBatch[] = [];
    const stop = new AbortController();
    await feed.follow({ apply: async (each) => void received.push(each) }, undefined, stop.signal);
    expect(received).toEqual([batch]);
    expect(interrupted.length).toBeGreaterThanOrEqual(4);
    await expect.poll(() => foreign, { timeout: 5000 }).toEqual(['another record']);
    stop.abort();
    await feed.close();
    server.close();
  }, 30_000);
});

describe('a file that is replaced', () => {
  it('is whole, old or new, also where the disk is full', () => {
    const folder = scratch();
    const file = join(folder, 'responders.json');
    replaceDurably(file, 'old');
    replaceDurably(file, 'new');
    expect(readFileSync(file, 'utf8')).toBe('new');
    const gone = join(folder, 'none', 'x');
    expect(() => replaceDurably(gone, 'x')).toThrow(/ENOENT/);
    mkdirSync(join(folder, 'is-a-folder'));
    writeFileSync(join(folder, 'is-a-folder', 'x'), '');
    expect(() => replaceDurably(join(folder, 'is-a-folder'), 'x')).toThrow();
    expect(readdirSync(folder).filter((name) => name.includes('.new'))).toEqual([]);
  });
});
