import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { PkiError } from '../../core/runtime/errors.ts';
import { verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { migrateRecord } from '../../store/migrations/migrate.ts';
import { notLocked } from '../../store/migrations/migration.ts';
import { findRecordKey } from '../../store/rules/record-keys.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { alter } from '../support/adversary.ts';
import { fixture, ManualClock, removeScratch, scratch } from '../support/harness.ts';
import { memoryKeyWrapper } from '../support/key-wrapper.ts';

// A record of an earlier version is verified by the rules of its time, and brought to those of today, or left as it is.

afterAll(removeScratch);

const keyWrapper = memoryKeyWrapper(new Uint8Array(32));
const context = {
  keyWrapper,
  actor: { client: 'n1', role: 'node', requestId: 'migration' },
  nowMs: Date.now(),
  checkpoints: async () => [],
  lock: () => notLocked,
  schemaSeen: 0,
};
let file: string;
beforeEach(() => {
  file = join(scratch(), 'record.db');
  copyRecord();
});

/** The service that wrote it was killed: part of it is in the log. */
function copyRecord(): void {
  for (const part of ['', '-wal'])
    copyFileSync(fixture(`record-3/node-1/record.db${part}`), `${file}${part}`);
  rmSync(`${file}-shm`, { force: true });
}

const schemaOf = (): string => metaValue('schema');

function metaValue(name: string): string {
  const database = new DatabaseSync(file);
  try {
    return String(database.prepare('SELECT value FROM meta WHERE name = ?').get(name)?.value);
  } finally {
    database.close();
  }
}

/** The audit of a record of today. */
async function audited() {
  const database = openSqlite({ file, writer: 'n1', clock: new ManualClock() });
  try {
    const key = await findRecordKey(database, keyWrapper, 'audit');
    if (!key) throw new Error('the record has no key');
    return await verifyAudit(database, [], new AuditKey(key));
  } finally {
    await database.close();
  }
}

describe('a record of schema 3', () => {
  it('is migrated once, verifies, and its chain goes on from where it was', async () => {
    await migrateRecord(file, context);
    const first = await audited();
    expect(first.finding).toBeUndefined();
    expect(first.entries).toBeGreaterThan(20);
    await migrateRecord(file, context);
    expect(await audited()).toEqual(first);
  });

  it('has what its restriction held in rows held by the class of each phone, and followers know it in that order', async () => {
    await migrateRecord(file, context);
    const database = new DatabaseSync(file);
    const all = (sql: string) => database.prepare(sql).all();
    expect(all("SELECT 1 FROM certificate WHERE heldBy LIKE '%restriction:%'")).toEqual([]);
    const [effect] = all('SELECT * FROM restrictionEffect');
    expect(effect).toMatchObject({ state: 'in-effect', endedMs: null, revokedMs: null });
    const unclassed = `SELECT 1 FROM certificate c WHERE kind LIKE 'phone-%' AND state <> 'revoked'
      AND NOT EXISTS (SELECT 1 FROM phoneCertificate p WHERE p.authority = c.authority AND p.position = c.position)`;
    expect(all(unclassed)).toEqual([]);
    const bodies = all("SELECT body FROM event WHERE writer = 'n1' ORDER BY position").map(({ body }) =>
      String(body),
    );
    const types = bodies.flatMap((body) => (JSON.parse(body) as { type: string }[]).map(({ type }) => type));
    const added = types.slice(types.indexOf('restriction'));
    expect(added.slice(0, 3)).toEqual(['restriction', 'device-class', 'device']);
    database.close();
    expect((await audited()).finding).toBeUndefined();
  });

  const alterations = {
    'a row was set back': ["UPDATE certificate SET state = 'good' WHERE state <> 'good'", /\["certificate"/],
    'a row was removed': ['DELETE FROM shard', /rows that were written are gone/],
    'a row was added': ["INSERT INTO holder VALUES ('stranger', 1)", /\["holder",\["stranger"\]\]/],
    'an entry was changed': [
      "UPDATE audit SET actor = '{}' WHERE sequence = 5",
      /its hash is not that of its content/,
    ],
    'an entry was removed': ['DELETE FROM audit WHERE sequence = 7', /an entry is missing/],
  } as const;
  for (const [what, [sql, says]] of Object.entries(alterations)) {
    it(`is not migrated where ${what}: it stays as it is`, async () => {
      alter(file, sql);
      await expect(migrateRecord(file, context)).rejects.toMatchObject({
        code: 'record-unavailable',
        message: expect.stringMatching(says),
      });
      expect(schemaOf()).toBe('3');
    });
  }

  it('is not migrated where its chain is not the one that was signed, or ends before: it stays as it is', async () => {
    const incarnation = metaValue('incarnation');
    const signed = (sequence: number) => ({ incarnation, writer: 'n1', sequence, hash: '00'.repeat(32) });
    for (const [sequence, says] of [
      [5, /not the entry of a signed checkpoint/],
      [10_000, /ends before a signed checkpoint/],
    ] as const) {
      await expect(
        migrateRecord(file, { ...context, checkpoints: async () => [signed(sequence)] }),
      ).rejects.toMatchObject({ code: 'record-unavailable', message: expect.stringMatching(says) });
      expect(schemaOf()).toBe('3');
    }
  });

  it('is not taken where the record has had a later schema: its rows would be believed as they are', async () => {
    await expect(migrateRecord(file, { ...context, schemaSeen: 4 })).rejects.toMatchObject({
      code: 'record-unavailable',
      message: expect.stringContaining('the token remembers schema 4'),
    });
    expect(schemaOf()).toBe('3');
  });

  it('is not migrated while a service has the record', async () => {
    const lock = () => {
      throw new PkiError('in-use', 'the service has it');
    };
    await expect(migrateRecord(file, { ...context, lock })).rejects.toMatchObject({ code: 'in-use' });
    expect(schemaOf()).toBe('3');
  });

  it.skipIf(process.getuid?.() !== 0)(
    'is not migrated where the disk has no room (a small disk wants root)',
    async () => {
      const disk = join(scratch(), 'disk');
      mkdirSync(disk);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk]);
      try {
        file = join(disk, 'record.db');
        copyRecord();
        await expect(migrateRecord(file, context)).rejects.toMatchObject({
          code: 'record-unavailable',
          message: expect.stringMatching(/needs \d+ octets of disk, and \d+ are free/),
        });
        expect(schemaOf()).toBe('3');
      } finally {
        execFileSync('umount', [disk]);
      }
    },
  );

  it('is migrated once by two processes at once', async () => {
    await Promise.all([migrateRecord(file, context), migrateRecord(file, context)]);
    expect((await audited()).finding).toBeUndefined();
  });

  it('protects migrated rows and entries', async () => {
    await migrateRecord(file, context);
    const good = await audited();
    expect(good.finding).toBeUndefined();
    alter(file, "UPDATE certificate SET version = version + 1 WHERE state = 'revoked'");
    expect((await audited()).finding).toMatchObject({
      type: 'row',
      where: expect.stringContaining('["certificate"'),
      what: 'it is not as its last entry left it',
    });
    alter(file, "UPDATE certificate SET version = version - 1 WHERE state = 'revoked'");
    alter(file, "UPDATE auditOfSchema3 SET subject = '{}' WHERE sequence = 3");
    expect((await audited()).finding).toMatchObject({ type: 'entry', where: expect.stringMatching(/\/3$/) });
  });

  it('has the schema of one step or the next when the process is killed, and is whole', async () => {
    const script = new URL('../support/migrate-process.ts', import.meta.url).pathname;
    const seen = new Set<string>();
    for (let i = 0; i < 8; i++) {
      copyRecord();
      const child = spawn(process.execPath, [script, file], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      // From before the transaction to behind its commit.
      await new Promise((done) => setTimeout(done, 4 * i));
      child.kill('SIGKILL');
      await once(child, 'exit');
      seen.add(schemaOf());
      await migrateRecord(file, context);
      expect((await audited()).finding).toBeUndefined();
    }
    expect([...seen].every((schema) => ['3', '4', '5', '6', '7'].includes(schema))).toBe(true);
  });
});

it('a record of a version that is not known is not opened, and the error says which are', async () => {
  alter(file, "UPDATE meta SET value = '9' WHERE name = 'schema'");
  await expect(migrateRecord(file, context)).rejects.toMatchObject({
    code: 'record-unavailable',
    message: 'the record has schema 9; this version opens 3, 4, 5, 6, 7',
  });
});
