import { describe, type TableName, tables } from '../schema/schema.ts';
import { quote } from '../schema/sql.ts';
import type { Column } from '../schema/table.ts';

/** Types of columns. Texts are compared octet by octet, as they are in every other implementation of the record. */
const types = { text: 'text COLLATE "C"', integer: 'bigint', blob: 'bytea' } as const;

export const kindOf = (column: Column): keyof typeof types => column.replace('?', '') as keyof typeof types;

/** The statements that define a table and its indexes where there are none. */
function ddlOf(name: TableName): string[] {
  const { columns, key, indexes = [], sparseIndexes = [] } = describe(name);
  const defined = Object.entries(columns).map(
    ([column, type]) => `${quote(column)} ${types[kindOf(type)]}${type.endsWith('?') ? '' : ' NOT NULL'}`,
  );
  defined.push(`PRIMARY KEY (${key.map(quote).join(', ')})`);
  const sealed = Object.entries(columns).filter(([, type]) => kindOf(type) === 'blob');
  const all = [...indexes.map((index) => ({ columns: index, present: null })), ...sparseIndexes];
  return [
    `CREATE TABLE IF NOT EXISTS ${quote(name)} (${defined.join(', ')})`,
    // What is sealed or signed cannot be compressed: the server need not try.
    ...sealed.map(
      ([column]) => `ALTER TABLE ${quote(name)} ALTER COLUMN ${quote(column)} SET STORAGE EXTERNAL`,
    ),
    ...all.map(({ columns: index, present }) => {
      const sparse = present === null ? '' : ` WHERE ${quote(present)} IS NOT NULL`;
      return `CREATE INDEX IF NOT EXISTS ${quote(`${name}By${index.join('')}`)} ON ${quote(name)} (${index.map(quote).join(', ')})${sparse}`;
    }),
  ];
}

/** The same of all tables. */
export const ddl = (): string[] => (Object.keys(tables) as TableName[]).flatMap(ddlOf);

/** What the server says of each column, as `SELECT ${definedColumns}` gives it. */
export const definedColumns = `SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
  WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position`;

/** Triggers, rules and views of the schema: they would do what no entry of the audit chain says. */
export const addedObjects = `SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
  UNION ALL SELECT r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    WHERE c.relnamespace = current_schema()::regnamespace`;

const serverTypes = { text: 'text', integer: 'bigint', blob: 'bytea' } as const;

/** What is wrong with the definitions of tables, by what the server says of its columns; undefined where nothing is. */
export function definitionFault(found: readonly (readonly unknown[])[]): string | undefined {
  const present = new Set(found.map((column) => column.join(' ')));
  const defined = Object.entries(tables).flatMap(([name, { columns }]) =>
    Object.entries(columns).map(
      ([column, type]) =>
        `${name} ${column} ${serverTypes[kindOf(type as Column)]} ${(type as Column).endsWith('?') ? 'YES' : 'NO'}`,
    ),
  );
  const missing = defined.find((column) => !present.has(column));
  if (missing !== undefined) return `not defined as this software defines it: ${missing}`;
  const known = new Set(defined);
  const added = [...present].find((column) => !known.has(column));
  return added === undefined ? undefined : `not defined by this software: ${added}`;
}
