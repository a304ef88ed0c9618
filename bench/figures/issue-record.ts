import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { columnsOf, type Row, type TableName } from '../../store/schema/schema.ts';

/** An epoch that no authority opens, so that positions do not collide. */
const epoch = 0;
const commitEvery = 50_000;

/**
 * Puts certificates without real holders on record, in pairs, as many rows of each table as issuing them would leave but for their
 * octets and events: what looking up and inserting have to find their way through. Keys rise evenly, so that they are
 * appended here, and lie everywhere for those that come later.
 */
export function populate(file: string, certificates: number): void {
  const database = new DatabaseSync(file);
  database.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN');
  const insert = inserter(database);
  const pairs = Math.ceil(certificates / 2);
  for (let i = 0; i < pairs; i++) {
    const even = Math.floor((i / pairs) * 0xffff_ffff_ffff)
      .toString(16)
      .padStart(12, '0');
    const holderId = `s-${even}`;
    const mediumId = `card:${holderId}`;
    const issuanceId = `${even.slice(0, 8)}-0000-7000-8000-${String(i).padStart(12, '0')}`;
    insert('medium', mediumOf(mediumId, holderId));
    for (const [n, authority] of (['signing-1', 'authentication-1'] as const).entries()) {
      const keyHash = Buffer.from(`${even}${n}0`.padEnd(64, '5'), 'hex');
      const key = { authority, epoch, position: i };
      insert('publicKey', { keyHash, certifiedMs: 0, blockedMs: null, ...key });
      insert('certificate', certificateOf(key, { holderId, mediumId, issuanceId }));
    }
    insert('issuance', issuanceOf(issuanceId));
    if (i % commitEvery === 0) database.exec('COMMIT; BEGIN');
  }
  database.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)');
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

/** Without its signatures. */
const issuanceOf = (issuanceId: string): Row<'issuance'> => ({
  issuanceId,
  atMs: 0,
  writer: 'node-1',
  eventPosition: 0,
  actor: '{}',
  certificates: '[]',
  signatures: new Uint8Array(),
});

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
