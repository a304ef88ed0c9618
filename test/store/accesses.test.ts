import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { AccessLog } from '../../store/accesses/access-log.ts';
import type { Access } from '../../store/api/access-store.ts';
import { removeScratch, scratch } from '../support/harness.ts';

// The log of who looked holders up: what is noted is on disk, in a chain; requests are counted for a day, whatever happens to the process.

afterAll(removeScratch);

const auditKey = new Uint8Array(32).fill(7);
const dayMs = 86_400_000;
const noon = Date.UTC(2026, 10, 26, 3);
const opened: AccessLog[] = [];
const open = (file: string): AccessLog => {
  const log = new AccessLog({ file, auditKey });
  opened.push(log);
  return log;
};
afterEach(async () => {
  for (const log of opened.splice(0)) await log.close();
});
const fileOf = (): string => join(scratch(), 'accesses.db');
const access = (atMs: number, more: Partial<Access> = {}): Access => ({
  ...{ atMs, holderId: 'h', client: 'c', kind: 'person', role: 'reader', actsFor: ['13113'] },
  ...{ purpose: 'audit', route: 'GET /v1/holders/:holderId', found: true, isFirst: true, ...more },
});

describe('the log of look-ups', () => {
  it('counts requests of a day, not rows, in a process that was started since as well', async () => {
    const file = fileOf();
    const before = open(file);
    // One that listed three holders, and one of the day before.
    const listed = ['a', 'b', 'c'].map((holderId, i) => access(noon, { holderId, isFirst: i === 0 }));
    await before.note([access(noon - dayMs), ...listed, access(noon)]);
    await before.close();
    const after = open(file);
    await after.admit('c', 3, noon);
    await expect(after.admit('c', 3, noon)).rejects.toMatchObject({ code: 'rate-exceeded' });
    await after.admit('other', 3, noon);
  });

  it('counts no day twice where the clock steps back, and has the next one', async () => {
    const log = open(fileOf());
    await log.admit('c', 1, noon);
    for (const atMs of [noon, noon - dayMs, noon - 3 * dayMs])
      await expect(log.admit('c', 1, atMs)).rejects.toMatchObject({ code: 'rate-exceeded' });
    // The day in Japan begins at 15:00 UTC.
    await expect(log.admit('c', 1, noon + 11 * 3_600_000)).rejects.toMatchObject({ code: 'rate-exceeded' });
    await log.admit('c', 1, noon + 12 * 3_600_000);
  });

  it('is a chain over restarts, which begins later once its oldest part is forgotten', async () => {
    const file = fileOf();
    const first = open(file);
    for (let day = 0; day < 5; day += 1) await first.note([access(noon + day * dayMs)]);
    await first.close();
    const second = open(file);
    await second.note([access(noon + 5 * dayMs)]);
    await second.forget(noon + 2 * dayMs, noon + 5 * dayMs);
    expect(await second.verify()).toBeUndefined();
    expect((await second.of('h', [])).accesses.map(({ sequence }) => sequence)).toEqual([6, 5, 4, 3]);
    await second.close();
    const third = open(file);
    expect(await third.verify()).toBeUndefined();
    expect(third.sequence).toBe(6);
  });

  it.each([
    [
      'a row was altered',
      "UPDATE access SET purpose = 'other' WHERE sequence = 2",
      /access 2 is not as it was/,
    ],
    [
      'a row was made another’s',
      "UPDATE access SET holderId = 'x' WHERE sequence = 2",
      /access 2 is not as it was/,
    ],
    ['a row was taken out', 'DELETE FROM access WHERE sequence = 2', /access 2 is not as it was/],
    ['a row was hidden', 'UPDATE access SET found = 0 WHERE sequence = 2', /access 2 is not as it was/],
    ['its begin was moved', 'DELETE FROM access WHERE sequence < 3', /access 1 is not as it was/],
    ['a row cannot be read', "UPDATE access SET actsFor = 'x' WHERE sequence = 2", /access 2 was altered/],
    ['its end was cut', 'DELETE FROM access WHERE sequence > 2', /accesses 3 to 4 are gone/],
  ])('says where %s', async (_what, statement, finding) => {
    const file = fileOf();
    const log = open(file);
    await log.note([1, 2, 3, 4].map((day) => access(noon + day * dayMs)));
    using database = new DatabaseSync(file);
    database.exec(statement);
    expect(await log.verify()).toMatch(finding);
  });

  it('is verified to its end, a part at a time, and records look-ups meanwhile', async () => {
    const file = fileOf();
    const log = open(file);
    for (let i = 0; i < 3; i += 1) await log.note(Array.from({ length: 2000 }, () => access(noon)));
    const settled: string[] = [];
    const verified = log.verify().then((finding) => settled.push(`verified: ${finding ?? 'all'}`));
    await Promise.all([verified, log.note([access(noon)]).then(() => settled.push('recorded'))]);
    expect(settled).toEqual(['recorded', 'verified: all']);
    using database = new DatabaseSync(file);
    // Where a part ends, too.
    database.exec('DELETE FROM access WHERE sequence > 4000');
    expect(await log.verify()).toBe('accesses 4001 to 6001 are gone');
  });

  it('shows a holder the look-ups of a day together, so that none hides another', async () => {
    const log = open(fileOf());
    await log.note([access(noon, { client: 'once' })]);
    for (let i = 0; i < 6; i += 1)
      await log.note(Array.from({ length: 1000 }, () => access(noon + 1, { client: 'often' })));
    const { accesses } = await log.of('h', []);
    expect(accesses.map(({ client, times }) => [client, times])).toEqual([
      ['often', 6000],
      ['once', 1],
    ]);
  });

  it('keeps a bounded number waiting, and refuses the others', async () => {
    const log = open(fileOf());
    const many = Array.from({ length: 10_000 }, () => access(noon));
    const noted = [1, 2].map(() => log.note(many));
    await expect(log.note(many)).rejects.toMatchObject({ code: 'overloaded' });
    await Promise.all(noted);
    await log.note([access(noon)]);
    expect(log.sequence).toBe(20_001);
  });

  it('rejects what it cannot write, and writes what comes next', async () => {
    const file = fileOf();
    const log = open(file);
    await log.note([access(noon)]);
    const other = new DatabaseSync(file);
    other.exec('ALTER TABLE access RENAME TO away');
    await expect(log.note([access(noon)])).rejects.toThrow();
    other.exec('ALTER TABLE away RENAME TO access');
    other.close();
    await log.note([access(noon)]);
    expect(log.sequence).toBe(2);
    expect(await log.verify()).toBeUndefined();
  });
});
