import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { hex } from '../../core/runtime/bytes.ts';
import { AuditPass, type PassState } from '../../store/audit/audit-pass.ts';
import type { AuditHead } from '../../store/audit/finding.ts';
import { PassFile } from '../../store/audit/pass-file.ts';
import { keyOrder } from '../../store/audit/table-rows.ts';
import { type VerifiableRecord, verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { byKey } from '../../store/engine/rule.ts';
import type { Row } from '../../store/schema/schema.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { alter } from '../support/adversary.ts';
import { ManualClock, removeScratch, scratch } from '../support/harness.ts';
import { openAuthority, writeRows } from '../support/store-commands.ts';

// A pass reads the record in slices, and the record is written between them.

afterAll(removeScratch);

const key = new AuditKey(new Uint8Array(32).fill(7));
const clock = new ManualClock();
/** More than one page of a table. */
const many = 2600;

/** Names whose order differs by octets and by units of UTF-16. */
const nameOf = (n: number): string => `${['a', 'é', '～', '𠮟'][n % 4]}-${n}`;
const hashOf = (n: number): Buffer => Buffer.from(String(n * 7919).padStart(32, '0'));

async function open() {
  const file = join(scratch(), 'record.db');
  const database = openSqlite({ file, writer: 'n1', clock });
  database.authenticateWith(key);
  await openAuthority(database, clock);
  await writeRows(database, (tx) => {
    for (let n = 0; n < many; n++) {
      tx.insert('holder', { holderId: nameOf(n), createdMs: n });
      tx.insert('publicKey', publicKey(n));
    }
  });
  return { file, database };
}

const publicKey = (n: number): Row<'publicKey'> => ({
  ...{ keyHash: hashOf(n), certifiedMs: 0, blockedMs: null },
  ...{ authority: 'signing-1', epoch: 1, position: n },
});

const newPass = (state?: PassState) => new AuditPass({ key, entryKey: key, checkpoints: [], state });
/** One page of rows. */
const slice = (database: VerifiableRecord, pass: AuditPass) =>
  database.readOnce((reader) => pass.slice(reader, () => true));

/** A pass by single pages, with something done after each, and a restart. Gives how far it was in the end. */
async function passBetween(
  database: RecordDatabase & VerifiableRecord,
  act: (n: number, at: PassState) => Promise<unknown>,
) {
  let pass = newPass();
  for (let n = 0; !(await slice(database, pass)); n++) {
    await act(n, pass.state);
    pass = newPass(JSON.parse(JSON.stringify(pass.state)) as PassState);
  }
  return pass.progress;
}

/** Adds, changes and removes rows all over two tables. */
async function writeAnywhere(database: RecordDatabase & VerifiableRecord, n: number): Promise<void> {
  const [added, changed, removed] = [many + n, (n * 389) % many, (n * 389 + 170) % many];
  await writeRows(
    database,
    (tx) => {
      tx.insert('holder', { holderId: nameOf(added), createdMs: n });
      tx.insert('publicKey', publicKey(added));
      const holder = tx.get('holder', { holderId: nameOf(changed) });
      if (holder) tx.update('holder', { ...holder, createdMs: -n }, holder);
      const known = tx.get('publicKey', { keyHash: hashOf(changed) });
      if (known) tx.update('publicKey', { ...known, blockedMs: n }, known);
      const goes = [{ holderId: nameOf(removed) }, { keyHash: hashOf(removed) }] as const;
      if (tx.get('holder', goes[0])) tx.remove('holder', goes[0]);
      if (tx.get('publicKey', goes[1])) tx.remove('publicKey', goes[1]);
    },
    [changed, removed].flatMap((of) => [
      byKey('holder', { holderId: nameOf(of) }),
      byKey('publicKey', { keyHash: hashOf(of) }),
    ]),
  );
}

describe('a pass in slices', () => {
  it('finds nothing in a record that is written between its slices and goes on after restarts', async () => {
    const { database } = await open();
    const { rows, rowsInAll } = await passBetween(database, (n) => writeAnywhere(database, n));
    expect(rows).toBeGreaterThan(2 * many - 200);
    expect(rowsInAll).toBeGreaterThan(2 * many - 200);
    await database.close();
  });

  it.each([
    ['holder', nameOf(3), `UPDATE holder SET createdMs = 99 WHERE holderId = '${nameOf(3)}'`],
    ['holder', nameOf(2599), `DELETE FROM holder WHERE holderId = '${nameOf(2599)}'`],
    ['publicKey', 'blocked', 'UPDATE publicKey SET blockedMs = 7 WHERE position = 1500'],
  ])(
    'finds a row of %s (%s) that was altered while it ran, now or in the next pass',
    async (table, _, sql) => {
      const { file, database } = await open();
      let passes = 0;
      const next = () =>
        passBetween(database, async (n) => {
          await writeAnywhere(database, many + 200 * passes + n);
          if (passes === 1 && n === 2) alter(file, sql);
        });
      const run = async (): Promise<unknown> => {
        for (; passes < 3; ) {
          passes += 1;
          await next();
        }
        return undefined;
      };
      await expect(run()).rejects.toMatchObject({
        finding: { type: 'row', where: expect.stringContaining(table) },
      });
      expect(passes).toBeLessThan(3);
      await database.close();
    },
  );

  it('finds a chain that was cut, or written again, behind where it was walked to', async () => {
    for (const sql of [
      'DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)',
      "UPDATE audit SET hash = x'00' WHERE sequence = (SELECT max(sequence) FROM audit)",
    ]) {
      const { file, database } = await open();
      const passing = passBetween(database, async (n) => (n === 1 ? alter(file, sql) : undefined));
      await expect(passing).rejects.toMatchObject({
        finding: { type: 'entry', what: /it is gone, or another/ },
      });
      await database.close();
    }
  });

  it('orders keys as the database does', () => {
    const names = Array.from({ length: 8 }, (_, n) => [nameOf(n), n]);
    const inOrder = [...names].sort(keyOrder).map(([name]) => name);
    expect(inOrder).toEqual(
      [...names].map(([name]) => String(name)).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    );
    expect(keyOrder(['a', 2], ['a', 10])).toBeLessThan(0);
    expect(keyOrder(['a', 2], ['a', 2])).toBe(0);
  });
});

describe('an interrupted verification', () => {
  /** Leaves behind what a process leaves that ended in the middle of a pass. */
  async function interrupt() {
    const { file, database } = await open();
    const pass = newPass();
    for (let n = 0; n < 3; n++) await slice(database, pass);
    const path = join(scratch(), 'audit', 'verify.pass');
    const kept = new PassFile(path, 'verify', { key, clock });
    await database.read((reader) => kept.resume(reader));
    kept.write(pass.state);
    return { file, database, path, kept };
  }

  it('is continued, and leaves nothing behind', async () => {
    const { database, path, kept } = await interrupt();
    await writeAnywhere(database, 1);
    const report = await verifyAudit(database, [], key, { file: kept });
    expect(report).toMatchObject({ finding: undefined, resumed: true });
    expect(report.rows).toBeGreaterThan(2 * many - 10);
    expect(existsSync(path)).toBe(false);
    expect(await verifyAudit(database, [], key, { file: kept })).toMatchObject({ resumed: false });
    await database.close();
  });

  it('begins again where its state was altered, is another record’s, began a week ago', async () => {
    const { database, path, kept } = await interrupt();
    const resumes = () => database.read((reader) => kept.resume(reader) !== undefined);
    expect(await resumes()).toBe(true);
    const whole = readFileSync(path, 'utf8');
    for (const altered of [
      whole.replace('"tablesRead":', '"tablesRead":1'),
      '',
      'x\n{}\n',
      whole.slice(0, 80),
    ]) {
      writeFileSync(path, altered);
      expect(await resumes()).toBe(false);
    }
    writeFileSync(path, whole);
    expect(await resumes()).toBe(true);
    const other = await open();
    expect(await other.database.read((reader) => kept.resume(reader))).toBeUndefined();
    clock.advance(7 * 24 * 3_600_000);
    expect(await resumes()).toBe(false);
    await other.database.close();
    await database.close();
  });

  it('compares checkpoints also with what an earlier process had walked', async () => {
    const { database, kept } = await interrupt();
    const [entry] = await database.read((reader) => reader.find('audit', { writer: 'n1' }, { limit: 1 }));
    const at = { writer: 'n1', sequence: entry?.sequence ?? 0, hash: hex(entry?.hash ?? new Uint8Array()) };
    const resumed = async (checkpoints: readonly AuditHead[]) => {
      const state = await database.read((reader) => kept.resume(reader));
      const report = await verifyAudit(database, checkpoints, key, { file: kept });
      if (state) kept.write(state);
      return report;
    };
    expect(await resumed([at])).toMatchObject({ resumed: true, finding: undefined });
    expect(await resumed([{ ...at, hash: '00'.repeat(32) }])).toMatchObject({
      resumed: true,
      finding: { type: 'checkpoint', what: /not the entry of a signed checkpoint/ },
    });
    expect(await resumed([{ ...at, sequence: 999 }])).toMatchObject({
      resumed: true,
      finding: { type: 'checkpoint', what: /ends before a signed checkpoint/ },
    });
    await database.close();
  });

  it('is as old as its begin, however often it was continued, and of one purpose', async () => {
    const { database, path, kept } = await interrupt();
    const state = await database.read((reader) => kept.resume(reader));
    expect(state).toBeDefined();
    for (let days = 0; days < 6; days++) {
      clock.advance(24 * 3_600_000);
      const again = await database.read((reader) => kept.resume(reader));
      if (again) kept.write(again);
    }
    expect(await database.read((reader) => kept.resume(reader))).toBeDefined();
    clock.advance(24 * 3_600_000);
    expect(await database.read((reader) => kept.resume(reader))).toBeUndefined();
    const other = new PassFile(path, 'watch', { key, clock });
    expect(await database.read((reader) => other.resume(reader))).toBeUndefined();
    await database.close();
  });
});
