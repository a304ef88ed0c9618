import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { hex } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { schema3Hash } from '../../store/audit/schema-3.ts';
import { auditedTables } from '../../store/audit/table-rows.ts';
import { verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { migrateRecord } from '../../store/migrations/migrate.ts';
import { notLocked } from '../../store/migrations/migration.ts';
import { openRecord } from '../../store/rules/ceremony-rules.ts';
import { findRecordKey } from '../../store/rules/record-keys.ts';
import { keyValues, rowDigest } from '../../store/schema/digest.ts';
import type { Row } from '../../store/schema/schema.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { memoryKeyWrapper } from '../../test/support/key-wrapper.ts';
import { inserter, populate } from './issue-record.ts';

/** Rows that one entry of the made record lists: what reserving a pair writes. */
const rowsOfEntry = 12;

/** How long a record of schema 3 takes to be migrated, and to be verified afterwards, and in how much memory. */
export async function benchAudit({ certificates }: { readonly certificates: number }) {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-audit-'));
  const file = join(folder, 'record.db');
  const keyWrapper = memoryKeyWrapper(new Uint8Array(32));
  const actor = { client: 'n1', role: 'node', requestId: 'bench' };
  const open = () => openSqlite({ file, writer: 'n1', clock: systemClock });
  try {
    const made = open();
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
    const database = open();
    const key = await findRecordKey(database, keyWrapper, 'audit');
    if (!key) throw new Error('a migrated record has a key');
    const beforeMs = systemClock.monotonicMs();
    const { finding } = await verifyAudit(database, [], new AuditKey(key));
    const verifiedMs = systemClock.monotonicMs();
    await database.close();
    if (finding) throw new Error(`${finding.where}: ${finding.what}`);
    return {
      certificates,
      rows,
      octets: statSync(file).size,
      migrateSeconds: (migratedMs - startMs) / 1000,
      verifySeconds: (verifiedMs - beforeMs) / 1000,
      rowsVerifiedPerSecond: Math.round(rows / ((verifiedMs - beforeMs) / 1000)),
      residentOctetsMax: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

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
