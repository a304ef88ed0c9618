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

/** What nodes know of each other (`nodes.ts`), and what they publish (`publications.ts`): no part of the record, so that no entry of the audit chain says it. */
const nodeTables = [
  `CREATE TABLE IF NOT EXISTS "nodeLease" (node text COLLATE "C" PRIMARY KEY, ordinal bigint NOT NULL,
    "leaseUntil" timestamp with time zone NOT NULL, "answersForMs" bigint NOT NULL, renewal bigint NOT NULL,
    timeline text COLLATE "C" NOT NULL, "hasLeft" boolean NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS "workClaim" (work text COLLATE "C" PRIMARY KEY, node text COLLATE "C" NOT NULL,
    until timestamp with time zone NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS "crlPublication" (path text COLLATE "C" PRIMARY KEY, number bigint NOT NULL, change bigint NOT NULL,
    described text COLLATE "C" NOT NULL, complete bytea NOT NULL, base bytea, delta bytea)`,
  `CREATE UNIQUE INDEX IF NOT EXISTS "crlPublicationBychange" ON "crlPublication" (change)`,
];
const nodeColumns = [
  'nodeLease node text NO',
  'nodeLease ordinal bigint NO',
  'nodeLease leaseUntil timestamp with time zone NO',
  'nodeLease answersForMs bigint NO',
  'nodeLease renewal bigint NO',
  'nodeLease timeline text NO',
  'nodeLease hasLeft boolean NO',
  'workClaim work text NO',
  'workClaim node text NO',
  'workClaim until timestamp with time zone NO',
  'crlPublication path text NO',
  'crlPublication number bigint NO',
  'crlPublication change bigint NO',
  'crlPublication described text NO',
  'crlPublication complete bytea NO',
  'crlPublication base bytea YES',
  'crlPublication delta bytea YES',
];
const nodeIndexes = [
  'nodeLease key node ',
  'workClaim key work ',
  'crlPublication key path ',
  'crlPublication index change ',
];

/** The same of all tables. */
export const ddl = (): string[] => [...(Object.keys(tables) as TableName[]).flatMap(ddlOf), ...nodeTables];

const here = 'current_schema()::regnamespace';

/** Columns as the server describes them. */
const definedColumns = `SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
  WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position`;

/** Indexes: of which table, whether of its key, of which columns, and of which rows. */
const definedIndexes = `SELECT c.relname, CASE WHEN i.indisprimary THEN 'key' ELSE 'index' END,
    (SELECT string_agg(a.attname, ',' ORDER BY k.place) FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number),
    coalesce(translate(pg_get_expr(i.indpred, i.indrelid), '"()', ''), '')
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = ${here} AND i.indisvalid`;

/** What would do, or leave out, what no entry of the audit chain says: triggers, rules, views, constraints, and other ways to keep rows. */
const addedObjects = `SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = ${here}
  UNION ALL SELECT r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = ${here}
  UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = ${here} AND contype NOT IN ('p', 'n')
  UNION ALL SELECT 'row security of ' || relname FROM pg_class
    WHERE relnamespace = ${here} AND (relrowsecurity OR relforcerowsecurity)
  UNION ALL SELECT 'an unlogged table ' || relname FROM pg_class
    WHERE relnamespace = ${here} AND relkind = 'r' AND relpersistence <> 'p'
  UNION ALL SELECT 'a collation of ' || c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = ${here} AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
      AND a.atttypid = 'text'::regtype AND a.attcollation <> '"C"'::regcollation`;

/** What to ask the server about how the record is defined; `definitionFault` takes the answers. */
export const definitionQuestions = [definedColumns, definedIndexes, addedObjects] as const;

const serverTypes = { text: 'text', integer: 'bigint', blob: 'bytea' } as const;

function expected(): { readonly columns: string[]; readonly indexes: string[] } {
  const names = Object.keys(tables) as TableName[];
  return {
    columns: [
      ...nodeColumns,
      ...names.flatMap((name) =>
        Object.entries(describe(name).columns).map(
          ([column, type]) =>
            `${name} ${column} ${serverTypes[kindOf(type)]} ${type.endsWith('?') ? 'YES' : 'NO'}`,
        ),
      ),
    ],
    indexes: names
      .flatMap((name) => {
        const { key, indexes = [], sparseIndexes = [] } = describe(name);
        return [
          `${name} key ${key.join()} `,
          ...indexes.map((columns) => `${name} index ${columns.join()} `),
          ...sparseIndexes.map(
            ({ columns, present }) => `${name} index ${columns.join()} ${present} IS NOT NULL`,
          ),
        ];
      })
      .concat(nodeIndexes),
  };
}

type Answers = readonly (readonly (readonly unknown[])[])[];

/** What is wrong with the definitions of tables, by the answers to `definitionQuestions`; undefined where nothing is. */
export function definitionFault([columns = [], indexes = [], added = []]: Answers): string | undefined {
  const wanted = expected();
  for (const [found, defined] of [
    [columns, wanted.columns],
    [indexes, wanted.indexes],
  ] as const) {
    const present = new Set(found.map((each) => each.join(' ')));
    const missing = defined.find((each) => !present.has(each));
    if (missing !== undefined) return `not defined as this software defines it: ${missing.trim()}`;
    const known = new Set(defined);
    const foreign = [...present].find((each) => !known.has(each));
    if (foreign !== undefined) return `not defined by this software: ${foreign.trim()}`;
  }
  return added.length === 0 ? undefined : `not defined by this software: ${String(added[0]?.[0])}`;
}
