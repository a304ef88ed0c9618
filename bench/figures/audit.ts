import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { hex } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { schema3Hash } from '../../store/audit/schema-3.ts';
import { auditedTables } from '../../store/audit/table-rows.ts';
import { migrateRecord } from '../../store/migrations/migrate.ts';
import { notLocked } from '../../store/migrations/migration.ts';
import { openRecord } from '../../store/rules/ceremony-rules.ts';
import { keyValues, rowDigest } from '../../store/schema/digest.ts';
import type { Row } from '../../store/schema/schema.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { memoryKeyWrapper } from '../../test/support/key-wrapper.ts';
import type { AuditVerified } from './audit-verify.ts';
import { inserter, populate } from './issue-record.ts';

/** Rows that one entry of the made record lists: what reserving a pair writes. */
const rowsOfEntry = 12;

/**
 * How long a record of schema 3 takes to be migrated, and to be verified afterwards, and in how much memory; and whether a verification
 * that is killed is continued. One that is shorter than five seconds leaves nothing to continue.
 */
export async function benchAudit({ certificates }: { readonly certificates: number }) {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-audit-'));
  const file = join(folder, 'record.db');
  const keyWrapper = memoryKeyWrapper(new Uint8Array(32));
  const actor = { client: 'n1', role: 'node', requestId: 'bench' };
  try {
    const made = openSqlite({ file, writer: 'n1', clock: systemClock });
    await openRecord(made, actor);
    await made.close();
    populate(file, certificates);
    addOctets(file);
    const rows = makeSchema3(file);
    const startMs = systemClock.monotonicMs();
    await migrateRecord(file, {
      ...{ keyWrapper, actor, nowMs: systemClock.wallMs(), schemaSeen: 0 },
      checkpoints: async () => [],
      lock: () => notLocked,
    });
    const migratedMs = systemClock.monotonicMs();
    const whole = await verifyInProcess(file, join(folder, 'whole.pass'));
    const killed = join(folder, 'killed.pass');
    await verifyInProcess(file, killed, 'kill');
    const second = await verifyInProcess(file, killed);
    const perSecond = Math.round(whole.rows / whole.seconds);
    return {
      certificates,
      rows,
      octets: statSync(file).size,
      migrateSeconds: (migratedMs - startMs) / 1000,
      verifySeconds: whole.seconds,
      rowsVerifiedPerSecond: perSecond,
      rowsPerSecond: perSecond,
      residentOctetsMax: whole.rssOctetsMax,
      rssMiBMax: Math.round(Math.max(whole.rssOctetsMax, second.rssOctetsMax) / 2 ** 20),
      resumed: second.resumed,
      secondsAfterResuming: second.seconds,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Verifies in a process of its own; with `kill`, one that is killed as soon as it has left something to continue. */
async function verifyInProcess(
  file: string,
  passFile: string,
  end: 'kill' | 'let' = 'let',
): Promise<AuditVerified> {
  const child = spawn(process.execPath, [entry, file, passFile], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += String(chunk);
  });
  const watching = setInterval(() => {
    if (end === 'kill' && existsSync(passFile)) child.kill('SIGKILL');
  }, 10);
  await once(child, 'close');
  clearInterval(watching);
  if (end === 'kill') return { rows: 0, seconds: 0, rssOctetsMax: 0, resumed: false, finding: null };
  const verified = JSON.parse(output) as AuditVerified;
  if (verified.finding) throw new Error(verified.finding);
  return verified;
}

const entry = new URL('./audit-verify.ts', import.meta.url).pathname;

/** Adds what else issuing leaves: to-be-signed octets, signatures, history, requests. */
function addOctets(file: string): void {
  const database = new DatabaseSync(file);
  database.exec('PRAGMA synchronous = OFF; BEGIN');
  const insert = inserter(database);
  const [octets, signature] = [randomBytes(1500), randomBytes(256)];
  const rows = database.prepare('SELECT authority, epoch, position, issuanceId FROM certificate').iterate();
  for (const row of rows) {
    const { issuanceId, ...key } = row as unknown as Pick<
      Row<'certificate'>,
      'authority' | 'epoch' | 'position' | 'issuanceId'
    >;
    insert('encoding', { ...key, dataKey: 'year:2031', octets });
    insert('signature', { ...key, octets: signature });
    insert('history', {
      ...{ ...key, writer: 'n1', eventPosition: 1, atMs: 0, change: 'issued', reason: null },
      ...{ cause: '{"event":"issued","cascadedFrom":null,"partOf":null}', actor: '{}' },
    });
    if (key.authority !== 'signing-1') continue;
    insert('request', {
      ...{ client: 'c'.repeat(64), route: 'card', idempotencyKey: issuanceId, bodyHash: signature },
      ...{ expiresMs: 0, state: 'done', issuanceId, status: null, dataKey: null, body: null },
    });
  }
  database.exec('COMMIT');
  database.close();
}

/** Makes the chain of schema 3 that lists all rows. Gives how many there are. */
function makeSchema3(file: string): number {
  const database = new DatabaseSync(file);
  database.exec('PRAGMA synchronous = OFF; BEGIN');
  database.exec("UPDATE meta SET value = '3' WHERE name = 'schema'; DELETE FROM audit; DELETE FROM issuance");
  const insert = inserter(database);
  let [count, sequence, previousHash] = [0, 0, new Uint8Array(32) as Uint8Array];
  let changes: unknown[] = [];
  const end = (): void => {
    if (changes.length === 0) return;
    sequence += 1;
    const entry = {
      ...{ writer: 'n1', sequence, atMs: 0, actor: '{}', action: 'reserve', subject: '{}' },
      ...{ changes: JSON.stringify(changes), previousHash },
    };
    previousHash = schema3Hash(entry);
    insert('auditOfSchema3', { ...entry, hash: previousHash });
    changes = [];
  };
  for (const table of auditedTables) {
    for (const row of database.prepare(`SELECT * FROM "${table}"`).iterate()) {
      changes.push([table, keyValues(table, row as never), hex(rowDigest(table, row as never)).slice(0, 32)]);
      count += 1;
      if (changes.length === rowsOfEntry) end();
    }
  }
  end();
  database.exec('DROP TABLE audit; ALTER TABLE auditOfSchema3 RENAME TO audit; COMMIT');
  database.close();
  return count;
}
