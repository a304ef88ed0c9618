// Verifies a record as `warifu audit verify` does, in a process of its own: its memory is that of the verification.
import { readFileSync, writeSync } from 'node:fs';
import { systemClock } from '../../core/runtime/clock.ts';
import { PassFile } from '../../store/audit/pass-file.ts';
import { verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { findRecordKey } from '../../store/rules/record-keys.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { memoryKeyWrapper } from '../../test/support/key-wrapper.ts';

/** What it prints, as one line of JSON. */
export interface AuditVerified {
  readonly rows: number;
  readonly seconds: number;
  readonly rssOctetsMax: number;
  readonly resumed: boolean;
  /** What is wrong with the record; null where nothing is. */
  readonly finding: string | null;
}

const [file = '', passFile = ''] = process.argv.slice(2);
const database = openSqlite({ file, writer: 'n1', clock: systemClock });
const octets = await findRecordKey(database, memoryKeyWrapper(new Uint8Array(32)), 'audit');
if (!octets) throw new Error('the record has no key');
const key = new AuditKey(octets);
const startMs = systemClock.monotonicMs();
const { rows, resumed, finding } = await verifyAudit(database, [], key, {
  file: new PassFile(passFile, 'verify', { key, clock: systemClock }),
});
const seconds = (systemClock.monotonicMs() - startMs) / 1000;
await database.close();
/** Not by getrusage(2), whose maximum is at least what the process that made this one had. */
function memoryMax(): number {
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(found?.[1]) * 1024;
}

const verified: AuditVerified = {
  ...{ rows, seconds, resumed },
  rssOctetsMax: memoryMax(),
  finding: finding ? `${finding.where}: ${finding.what}` : null,
};
writeSync(1, JSON.stringify(verified));
