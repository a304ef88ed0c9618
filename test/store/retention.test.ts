import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, describe, expect, it } from 'vitest';
import { layout } from '../../ca/node/layout.ts';
import { workOff } from '../../core/runtime/steps.ts';
import { forgetQueries } from '../../ocsp/node/query-log.ts';
import { AccessDatabase } from '../../store/accesses/access-database.ts';
import { RecordRetention } from '../../store/rules/retention-store.ts';
import type { Row } from '../../store/schema/schema.ts';
import {
  issueCard,
  issuePhone,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
} from '../support/harness.ts';
import { dropDatabases } from '../support/postgres.ts';
import { day, implementations, openAuthority, writeRows } from '../support/store-commands.ts';

// What only grows has an end, and is removed as fast as it comes.

afterAll(removeScratch);
afterAll(dropDatabases);

const signal = new AbortController().signal;

describe.each(implementations)('retention in %s', (_name, open) => {
  async function opened() {
    const clock = new ManualClock();
    const database = await open({ writer: 'n1', clock });
    await openAuthority(database, clock);
    const retention = new RecordRetention({ database, clock });
    const count = (table: 'request' | 'challenge' | 'message') =>
      database.read((reader) => reader.scan(table, { limit: 10_000 }).length);
    return { clock, database, retention, count };
  }

  it('removes all that has expired, however much it is, and nothing that has not', async () => {
    const { clock, database, retention, count } = await opened();
    const nowMs = clock.wallMs();
    const request = (n: number, expiresMs: number): Row<'request'> => ({
      ...{ client: 'c', route: 'card', idempotencyKey: String(n), bodyHash: Uint8Array.of(1), expiresMs },
      ...{ state: 'done', issuanceId: null, status: null, dataKey: null, body: null },
    });
    await writeRows(database, (tx) => {
      for (let n = 0; n < 1700; n++) tx.insert('request', request(n, nowMs - 1));
      tx.insert('request', request(5000, nowMs + day));
    });
    let steps = 0;
    await workOff(
      async () => {
        steps += 1;
        return retention.purgeExpired();
      },
      { clock, signal },
    );
    expect(await count('request')).toBe(1);
    expect(steps).toBe(4);
    await database.close();
  });

  it('removes messages in order of their age, behind orders that stay, and begins again where more have come', async () => {
    const { clock, database, retention, count } = await opened();
    const message = (n: number, createdMs: number, dueMs: number | null): Row<'message'> => ({
      ...{ messageId: `m${String(n).padStart(6, '0')}`, type: 'holder-notice', destination: 'holder' },
      ...{
        holderId: 'h',
        mediumId: null,
        authority: 'signing-1',
        epoch: 1,
        position: 1,
        kind: 'card-signing',
      },
      ...{ occasion: 'revoked', reason: null, createdMs, state: 'delivered', attempts: 0, dueMs },
      ...{ lastError: null, deliveredMs: 1, confirmedMs: null },
    });
    await writeRows(database, (tx) => {
      for (let n = 0; n < 600; n++) tx.insert('message', message(n, 1, clock.wallMs() + day));
      for (let n = 600; n < 1900; n++) tx.insert('message', message(n, 1, null));
      for (let n = 1900; n < 3000; n++) tx.insert('message', message(n, clock.wallMs(), null));
    });
    const purge = () => workOff(() => retention.purgeMessages(clock.wallMs() - day), { clock, signal });
    await purge();
    expect(await count('message')).toBe(600 + 1100);
    clock.advance(2 * day);
    await purge();
    expect(await count('message')).toBe(600);
    await database.close();
  });
});

describe('retention of the service', () => {
  it('removes octets and proofs of what ended long ago; its status stays, and it is shown without its PEM', async () => {
    const test = await startTestService({ overrides: { issuing: { octetsRetention: '30d' } } });
    const { api, service } = test;
    const holder = await issueCard(api);
    const { retention, clock } = service.ca;
    const [signing] = holder.card.certificates;
    const path = `/certificates/${signing?.authority}/${signing?.serialNumber}`;
    const endsMs = Math.max(...holder.card.certificates.map(({ notAfter }) => Date.parse(notAfter)));
    const all = (beforeMs: number) =>
      workOff(() => retention.purgeOctets(beforeMs), { clock, signal: new AbortController().signal });
    await all(clock.wallMs());
    const before = await api.get<{ certificate: string | null; status: object }>(path);
    expect(before.body.certificate).toContain('BEGIN CERTIFICATE');
    await all(endsMs + 1);
    const after = await api.get<{ certificate: string | null; status: object }>(path);
    expect(after.body).toMatchObject({ certificate: null, status: before.body.status });
    const { body } = await api.get<{ certificates: object[] }>(`/holders/${holder.holderId}`);
    expect(body.certificates).toHaveLength(2);
    // Of the CA's own certificates none has ended.
    await test.close();
  });

  it('keeps the proof of an issuance until the last of its certificates has ended', async () => {
    const test = await startTestService({ overrides: { issuing: { octetsRetention: '30d' } } });
    const holder = await issueCard(test.api);
    await issuePhone(test.api, holder);
    const { folder, service } = test;
    const { retention, clock } = service.ca;
    const record = new DatabaseSync(layout(folder).record, { timeout: 5000 });
    const [proof] = record.prepare('SELECT issuanceId FROM evidence').all() as { issuanceId: string }[];
    const ends = record
      .prepare('SELECT notAfterMs FROM certificate WHERE issuanceId = ?')
      .all(proof?.issuanceId ?? '') as { notAfterMs: number }[];
    expect(ends).toHaveLength(2);
    const last = Math.max(...ends.map(({ notAfterMs }) => notAfterMs));
    record
      .prepare("UPDATE certificate SET notAfterMs = ? WHERE issuanceId = ? AND kind = 'phone-signing'")
      .run(last - day, proof?.issuanceId ?? '');
    const proofs = () => record.prepare('SELECT count(*) AS n FROM evidence').get()?.n;
    const purge = (beforeMs: number) => workOff(() => retention.purgeOctets(beforeMs), { clock, signal });
    const before = proofs();
    await purge(last - day / 2);
    expect(proofs()).toBe(before);
    await purge(last + 1);
    expect(proofs()).toBe(Number(before) - 1);
    record.close();
    await test.close();
  });

  it('forgets accesses a thousand at a time, and says whether there are more', () => {
    const database = new AccessDatabase(join(scratch(), 'accesses.db'), new Uint8Array(32));
    const access = (atMs: number) => ({
      ...{ atMs, holderId: 'h', client: 'c', kind: 'person', role: 'reader', actsFor: [], purpose: null },
      ...{ route: 'GET /holders', found: true, isFirst: true },
    });
    database.add(Array.from({ length: 1500 }, () => access(1)) as never, []);
    database.add([access(500)] as never, []);
    expect([database.forget(100, 100), database.forget(100, 100)]).toEqual([true, false]);
    expect(database.countSince('c', 0)).toBe(1);
    database.close();
  });

  it('removes logs of what was asked by the day, and nothing else', async () => {
    const folder = join(scratch(), 'asked');
    await forgetQueries(folder, Date.UTC(2026, 0, 10));
    expect(existsSync(folder)).toBe(false);
    mkdirSync(folder);
    const names = ['2025-12-31.0.ndjson', '2026-01-09.1.ndjson', '2026-01-10.0.ndjson', 'notes.ndjson'];
    for (const name of names) writeFileSync(join(folder, name), '');
    await forgetQueries(folder, Date.UTC(2026, 0, 10, 12));
    expect(readdirSync(folder).sort()).toEqual(['2026-01-10.0.ndjson', 'notes.ndjson']);
  });
});
