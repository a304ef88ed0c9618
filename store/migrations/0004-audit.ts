import { PkiError } from '../../core/runtime/errors.ts';
import { migrateAction, writersOf } from '../audit/chains.ts';
import type { TableSum } from '../audit/digest-sum.ts';
import { AuditFailure, type AuditHead } from '../audit/finding.ts';
import { EntryDraft, genesis } from '../engine/audit-entry.ts';
import { AuditKey } from '../engine/audit-key.ts';
import type { Heads, RecordReader } from '../engine/record.ts';
import { makeRecordKey } from '../rules/record-keys.ts';
import type { Migration } from './migration.ts';
import { verifySchema3 } from './verify-schema-3.ts';

/**
 * From entries that hold the digests of rows as they were left, one for each transaction, to authenticated ones with digests before
 * and after. The record is verified by the rules of before; then one entry says how many rows each table had and what their sum is.
 */
export const toSchema4: Migration = {
  from: '3',
  to: '4',
  // With the indexes that tables have today.
  writes: 0.15,
  prepare: async (context) => {
    const { key, row } = await makeRecordKey(context.keyWrapper, 'audit', context.nowMs);
    const auditKey = new AuditKey(key);
    const checkpoints = await context.checkpoints();
    return ({ rows, rename, createMissing }) => {
      rename('audit', 'auditOfSchema3');
      createMissing();
      const incarnation = rows.get('meta', { name: 'incarnation' })?.value;
      const own = checkpoints.filter((each) => each.incarnation === incarnation);
      const sums = verifiedSums(rows, auditKey, own);
      const [carrier, ...others] = writersOf(rows);
      if (carrier === undefined) throw new PkiError('record-unavailable', 'the record names no writer');
      // Dated like the last entry: no clock has been compared with the record yet.
      const at = { nowMs: 0, key: auditKey };
      const goOn = (writer: string, draft: EntryDraft, tables: object): void => {
        draft.close(
          { actor: context.actor, action: migrateAction, subject: { from: '3', to: '4', tables } },
          'always',
        );
        draft.write(rows, { ...at, writer, heads: schema3Heads(rows, writer) });
      };
      // One of the chains says what the rows were; the others only go on from where they ended.
      const draft = new EntryDraft();
      const [before, schema] = [rows.get('meta', { name: 'schema' }), { name: 'schema', value: '4' }];
      if (before) rows.update('meta', schema, before);
      rows.insert('dataKey', row);
      draft.add('meta', schema, before, schema);
      draft.add('dataKey', row, undefined, row);
      goOn(carrier, draft, sums);
      for (const writer of others) goOn(writer, new EntryDraft(), {});
    };
  },
};

/** Verifies the record by the rules of schema 3. How many rows each table has, and their sum. */
function verifiedSums(
  rows: RecordReader,
  key: AuditKey,
  checkpoints: readonly AuditHead[],
): Record<string, TableSum> {
  try {
    return verifySchema3(rows, { key, checkpoints }).all;
  } catch (error) {
    if (!(error instanceof AuditFailure)) throw error;
    const { where, what } = error.finding;
    throw new PkiError(
      'record-unavailable',
      `the record was altered before this version opened it: ${where}: ${what}; restore a backup`,
    );
  }
}

function schema3Heads(rows: RecordReader, writer: string): Heads {
  const [last] = rows.find('auditOfSchema3', { writer }, { descending: true, limit: 1 });
  const { sequence, hash } = last ?? genesis;
  return { sequence, hash, atMs: last?.atMs ?? 0, position: 0 };
}
