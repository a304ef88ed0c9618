import { makeTables } from '../postgres/postgres.ts';
import { askingOver, readWith } from '../postgres/reads.ts';
import type { PostgresServer } from '../postgres/server.ts';
import { Session, translate } from '../postgres/session.ts';
import { statementsFor } from '../postgres/writes.ts';
import { keyValues } from '../schema/digest.ts';
import { type Key, type Row, type TableName, tables } from '../schema/schema.ts';
import { quote } from '../schema/sql.ts';
import type { CopyTarget } from './copy-record.ts';

/** A database that a record is copied into. */
export interface PostgresCopy extends CopyTarget {
  isEmpty(): Promise<boolean>;
  close(): Promise<void>;
}

/** Opens a database, and makes the tables that are not there. */
export async function openCopyTarget(server: PostgresServer): Promise<PostgresCopy> {
  const session = await Session.open(server, { name: 'warifu copying', settings: { enable_seqscan: 'off' } });
  const lastOf = async (table: TableName): Promise<Row<TableName> | undefined> =>
    (
      await readWith(askingOver(session), (reader) => reader.find(table, {}, { descending: true, limit: 1 }))
    )[0];
  try {
    await makeTables(session);
  } catch (error) {
    await session.close();
    throw translate(error);
  }
  return {
    lastKey: async (table) => {
      const row = await lastOf(table);
      return row ? keyValues(table, row) : null;
    },
    write: (table, rows) => insertRows(session, table, rows),
    isEmpty: async () => {
      const found = await Promise.all((Object.keys(tables) as TableName[]).map(lastOf));
      return found.every((row) => row === undefined);
    },
    close: () => session.close(),
  };
}

async function insertRows(
  session: Session,
  table: TableName,
  rows: readonly Row<TableName>[],
): Promise<void> {
  const changes = rows.map((row) => ({ table, key: row as Key<TableName>, before: undefined, row }));
  const sent = ['BEGIN', ...statementsFor(changes), 'COMMIT'].map((statement) =>
    typeof statement === 'string'
      ? session.query(statement)
      : session.query(statement.text, statement.values),
  );
  try {
    await Promise.all(sent);
  } catch (error) {
    await session.query('ROLLBACK').catch(() => undefined);
    throw translate(error);
  }
}

/** Puts a record aside, in a schema of its own, so that no service finds it; once for each time. Gives the schema's name. */
export async function setAside(server: PostgresServer, atMs: number): Promise<string> {
  const session = await Session.open(server, { name: 'warifu copying' });
  const schema = `moved_${new Date(atMs)
    .toISOString()
    .replaceAll(/[^0-9]/g, '')
    .slice(0, 14)}`;
  try {
    const { rows } = await session.query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema]);
    if (rows.length > 0) return schema;
    await session.query('BEGIN');
    await session.query(`CREATE SCHEMA ${quote(schema)}`);
    for (const table of Object.keys(tables))
      await session.query(`ALTER TABLE IF EXISTS ${quote(table)} SET SCHEMA ${quote(schema)}`);
    await session.query('COMMIT');
    return schema;
  } catch (error) {
    throw translate(error);
  } finally {
    await session.close();
  }
}
