import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { certificateOf, mediumOf } from '../../bench/figures/issue-record.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { BulkThread } from '../../store/bulk/bulk-thread.ts';
import { byKey } from '../../store/engine/rule.ts';
import { RecordOperations } from '../../store/rules/operations-store.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { ManualClock, removeScratch, scratch } from '../support/harness.ts';
import { keyOf, openAuthority, StoreCommands, writeRows } from '../support/store-commands.ts';

afterAll(removeScratch);

it('a thread of bulk operations that dies says why, and the next step begins another', async () => {
  const database = openSqlite({ file: join(scratch(), 'record.db'), writer: 'n1', clock: systemClock });
  const key = new Uint8Array(32);
  const file = join(scratch(), 'no-such-folder', 'record.db');
  const thread = new BulkThread({ database, clock: systemClock, file, journalKey: key, auditKey: key });
  for (let step = 0; step < 2; step += 1)
    await expect(thread.step('a', 1)).rejects.toMatchObject({
      code: 'record-unavailable',
      message: expect.stringMatching(/has ended: .*cannot be opened/),
    });
  await thread.close();
  await database.close();
});

it('a bulk operation passes over a certificate whose row was altered, names it, and changes all others', async () => {
  const clock = new ManualClock();
  const database = openSqlite({ file: join(scratch(), 'record.db'), writer: 'n1', clock });
  await openAuthority(database, clock);
  const { store, feed } = new StoreCommands(database, clock);
  const operations = new RecordOperations({ database, feed, clock });
  const match = {
    ...{ platform: 'android', models: null, secureElements: null },
    ...{ osVersionFrom: null, osVersionTo: null, patchLevelBefore: null },
  };
  const key = (position: number) => ({ authority: 'signing-1', epoch: 1, position });
  await writeRows(database, (tx) => {
    for (const position of [1, 2, 3]) {
      const [holderId, mediumId] = [`h${position}`, `phone:${position}`];
      tx.insert('medium', {
        ...mediumOf(mediumId, holderId),
        type: 'phone',
        platform: 'android',
        model: 'm',
      });
      const row = certificateOf(key(position), { holderId, mediumId, issuanceId: `i${position}` });
      // Good, and with the time of a revocation.
      const revokedMs = position === 2 ? 5 : null;
      tx.insert('certificate', { ...row, kind: 'phone-signing', notAfterMs: 10 ** 13, revokedMs });
    }
    const restriction = { restrictionId: 'r', match: JSON.stringify(match), note: '', createdMs: 1 };
    tx.insert('restriction', { ...restriction, state: 'in-force' });
    tx.insert('massAct', {
      ...{ actId: 'a', restrictionId: 'r', action: 'hold', reason: null, state: 'running' },
      ...{ proposedBy: 'x', proposedMs: 1, approvedBy: 'y', approvedMs: 1 },
      ...{ cursor: null, phones: 0, certificates: 0, finishedMs: null },
    });
  });
  const { operation, altered } = await operations.advance('a', 10);
  expect(operation).toMatchObject({ state: 'done', phones: 3, certificates: 2 });
  expect(altered).toEqual([key(2)]);
  expect(await Promise.all([1, 3].map(async (n) => (await store.certificate(key(n)))?.state))).toEqual([
    'held',
    'held',
  ]);
  await database.close();
});

it('a reservation whose rows were altered keeps no other from being rolled forward', async () => {
  const clock = new ManualClock();
  const database = openSqlite({ file: join(scratch(), 'record.db'), writer: 'n1', clock });
  await openAuthority(database, clock);
  const one = new StoreCommands(database, clock);
  const [first, second] = [await one.command(), await one.command()];
  await one.store.reserve(first);
  await one.store.reserve(second);
  const altered = keyOf(first.certificates[0] as CertificateId);
  await writeRows(
    database,
    (tx) => {
      const row = tx.get('certificate', altered);
      if (row) tx.update('certificate', { ...row, revokedMs: 5 }, row);
    },
    [byKey('certificate', altered)],
  );
  expect((await one.store.pendingReservations('own-and-expired')).toSorted()).toEqual(
    [first.issuanceId, second.issuanceId].toSorted(),
  );
  await expect(one.store.reservation(first.issuanceId)).rejects.toMatchObject({ code: 'record-unavailable' });
  expect((await one.store.reservation(second.issuanceId)).certificates).toHaveLength(2);
  await database.close();
});
