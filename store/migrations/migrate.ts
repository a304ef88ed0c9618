import { existsSync } from 'node:fs';
import { PkiError } from '../../core/runtime/errors.ts';
import { schemaVersion } from '../rules/token-memory.ts';
import { openForMigration } from '../sqlite/migration-connection.ts';
import { toSchema4 } from './0004-audit.ts';
import { toSchema5 } from './0005-clients.ts';
import { toSchema6 } from './0006-issuances.ts';
import { toSchema7 } from './0007-device-classes.ts';
import type { Migration, MigrationContext } from './migration.ts';

// Brings a record of an earlier version to what this one reads and writes. Each step is one transaction: a process that is killed
// leaves the record of before, or the one after. A step only adds, or renames; what it leaves unused is removed by a later version.

const migrations: readonly Migration[] = [toSchema4, toSchema5, toSchema6, toSchema7];

/** Schemas that this version brings to its own. */
export const readableSchemas = [...migrations.map(({ from }) => from), schemaVersion];

/**
 * Brings a record to this version's schema, step by step; does nothing to one that has it, or where there is no file. Throws
 * `record-unavailable` for a record of another version, one that was altered or set back, and where the disk has no room.
 */
export async function migrateRecord(file: string, context: MigrationContext): Promise<void> {
  if (!existsSync(file)) return;
  using record = openForMigration(file);
  for (
    let schema = record.schema();
    schema !== undefined && schema !== schemaVersion;
    schema = record.schema()
  ) {
    const migration = migrations.find(({ from }) => from === schema);
    if (!migration)
      throw new PkiError(
        'record-unavailable',
        `the record has schema ${schema}; this version opens ${readableSchemas.join(', ')}`,
      );
    if (Number(schema) < context.schemaSeen)
      throw new PkiError(
        'record-unavailable',
        `the record has schema ${schema}, and the token remembers schema ${context.schemaSeen}: an older one was put in its place; restore a backup`,
      );
    record.refuseWithoutRoom(migration.writes);
    const act = await migration.prepare(context, record.rows);
    using locked = new DisposableStack();
    const lock = context.lock();
    locked.defer(() => lock.release());
    record.transaction(() => {
      // Another process may have come first.
      if (record.schema() === schema) act(record);
    });
  }
}
