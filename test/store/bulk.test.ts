import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { systemClock } from '../../core/runtime/clock.ts';
import { BulkThread } from '../../store/bulk/bulk-thread.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { removeScratch, scratch } from '../support/harness.ts';

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
