import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { columnsOf, type Row, type TableName } from '../../store/schema/schema.ts';

/** An epoch that no authority opens, so that positions do not collide. */
const unopened = { epoch: 0, firstPosition: 0 };
/** Days over which what is on record ends, from tomorrow on. */
const endingDays = 3650;
const dayMs = 86_400_000;
const stepOf = (pairs: number): number => Math.floor(0xffff_ffff_ffff / pairs);

/** The i-th holder of so many. */
export const holderOfRow = (i: number, pairs: number): string =>
  `s-${(i * stepOf(pairs)).toString(16).padStart(12, '0')}`;

/** Rows of one pair. */
export const rowsOfPair = 7;

/**
 * Puts certificates without real holders on record, in pairs, as many rows of each table as issuing them would leave but for their
 * octets and events: what looking up and inserting have to find their way through. Keys rise evenly, so that they are
 * appended here, and lie everywhere for those that come later.
 */
export function populate(file: string, certificates: number, { epoch, firstPosition } = unopened): void {
  const pairs = Math.ceil(certificates / 2);
  const step = stepOf(pairs);
  const database = new DatabaseSync(file);
  database.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -524288; PRAGMA temp_store = FILE');
  const indexes = database.prepare(
    "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?",
  );
  const fill = (table: TableName, count: number, values: Readonly<Record<string, string>>): void => {
    const built = indexes.all(table) as { name: string; sql: string }[];
    for (const { name } of built) database.exec(`DROP INDEX "${name}"`);
    const columns = columnsOf(table).map((column) => values[column] ?? 'NULL');
    database.exec(
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ${count})
       INSERT INTO "${table}" SELECT ${columns.join(', ')} FROM n`,
    );
    for (const { sql } of built) database.exec(sql);
  };
  // As `holderOfRow` says it.
  const even = (i: string): string => `printf('%012x', (${i}) * ${step})`;
  const holderId = `'s-' || ${even('i')}`;
  const issuanceId = `substr(${even('i')}, 1, 8) || '-0000-7000-8000-' || printf('%012d', i)`;
  const mediumId = `'card:s-' || ${even('i')}`;
  const tomorrowMs = Math.ceil(Date.now() / dayMs) * dayMs;
  const notAfterMs = `${tomorrowMs} + (i * 7919 % ${endingDays}) * ${dayMs}`;
  fill('medium', pairs, { mediumId, holderId, type: "'card'", expiresMs: notAfterMs, createdMs: '0' });
  fill('holderTown', pairs, { holderId, municipality: "'13113'", changedMs: '0' });
  fill('issuance', pairs, {
    ...{ issuanceId, atMs: '0', writer: "'n1'", eventPosition: '0' },
    ...{ actor: "'{}'", certificates: "'[]'", signatures: "x''" },
  });
  fill('publicKey', 2 * pairs, {
    keyHash: `unhex(${even('i / 2')} || printf('%02d', i % 2) || '${'5'.repeat(50)}')`,
    ...{ certifiedMs: '0', authority: "iif(i % 2, 'authentication-1', 'signing-1')" },
    ...{ epoch: String(epoch), position: `${firstPosition} + i / 2` },
  });
  for (const [authority, kind] of [
    ['authentication-1', 'card-authentication'],
    ['signing-1', 'card-signing'],
  ])
    fill('certificate', pairs, {
      ...{ authority: `'${authority}'`, epoch: String(epoch), position: `${firstPosition} + i` },
      ...{ kind: `'${kind}'`, holderId, mediumId, issuanceId, state: "'good'", version: '1' },
      ...{ notBeforeMs: '0', notAfterMs },
    });
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  database.close();
}

export function inserter(database: DatabaseSync) {
  const statements = new Map<TableName, StatementSync>();
  return <T extends TableName>(table: T, row: Row<T>): void => {
    const columns = columnsOf(table);
    const statement =
      statements.get(table) ??
      database.prepare(`INSERT INTO "${table}" VALUES (${columns.map(() => '?').join()})`);
    statements.set(table, statement);
    const values = row as Readonly<Record<string, string | number | Uint8Array | null>>;
    statement.run(...columns.map((column) => values[column] ?? null));
  };
}

export const mediumOf = (mediumId: string, holderId: string): Row<'medium'> => ({
  mediumId,
  holderId,
  type: 'card',
  expiresMs: 0,
  restsOn: null,
  platform: null,
  model: null,
  osVersion: null,
  secureElement: null,
  patchLevel: null,
  createdMs: 0,
});

export const certificateOf = (
  key: Pick<Row<'certificate'>, 'authority' | 'epoch' | 'position'>,
  of: Pick<Row<'certificate'>, 'holderId' | 'mediumId' | 'issuanceId'>,
): Row<'certificate'> => ({
  ...key,
  ...of,
  kind: key.authority.startsWith('signing') ? 'card-signing' : 'card-authentication',
  state: 'good',
  reason: null,
  revokedMs: null,
  invalidityMs: null,
  heldBy: null,
  notify: null,
  version: 1,
  notBeforeMs: 0,
  notAfterMs: 0,
  shard: null,
  restsOnAuthority: null,
  restsOnEpoch: null,
  restsOnPosition: null,
});
