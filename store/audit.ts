import { type Bytes, digest, hex } from '../core/bytes.ts';
import type { Deed, RecordReader, RecordWriter } from './record.ts';
import { describe, type Key, type Row, type TableName } from './schema.ts';

/** Digest of a row as the audit chain remembers it: 16 octets of SHA-256 over its columns in order of the schema. */
export function rowDigest<T extends TableName>(table: T, row: Row<T>): string {
  const columns = row as Readonly<Record<string, string | number | Bytes | null>>;
  const values = Object.keys(describe(table).columns).map((name) => {
    const value = columns[name] ?? null;
    return value instanceof Uint8Array ? { hex: hex(value) } : value;
  });
  return hex(digest('sha256', JSON.stringify([table, values])).subarray(0, 16));
}

/** The key's values in order, for naming a row in the chain. */
export function keyValues<T extends TableName>(table: T, row: Key<T>): (string | number)[] {
  const columns = row as Readonly<Record<string, string | number | Bytes>>;
  return describe(table).key.map((name) => {
    const value = columns[name] ?? '';
    return value instanceof Uint8Array ? hex(value) : value;
  });
}

type Change = readonly [table: TableName, key: (string | number)[], digest: string | null];

/** Passes everything on and remembers the digest of every row written. */
export class AuditedWriter implements RecordWriter {
  readonly #raw: RecordWriter;
  readonly changes: Change[] = [];

  constructor(raw: RecordWriter) {
    this.#raw = raw;
  }

  get: RecordReader['get'] = (table, key) => this.#raw.get(table, key);
  find: RecordReader['find'] = (table, where, options) => this.#raw.find(table, where, options);

  findExpired: RecordReader['findExpired'] = (table, beforeMs, limit) =>
    this.#raw.findExpired(table, beforeMs, limit);

  async insert<T extends TableName>(table: T, row: Row<T>): Promise<void> {
    await this.#raw.insert(table, row);
    this.#note(table, row as unknown as Key<T>, rowDigest(table, row));
  }

  async update<T extends TableName>(table: T, row: Row<T>): Promise<void> {
    await this.#raw.update(table, row);
    this.#note(table, row as unknown as Key<T>, rowDigest(table, row));
  }

  async remove<T extends TableName>(table: T, key: Key<T>): Promise<void> {
    await this.#raw.remove(table, key);
    this.#note(table, key, null);
  }

  #note<T extends TableName>(table: T, key: Key<T>, rowHash: string | null): void {
    this.changes.push([table, keyValues(table, key), rowHash]);
  }
}

/** SHA-256 over the previous entry's hash and every other column of this one. */
export function auditHash(entry: Omit<Row<'audit'>, 'hash'>): Bytes {
  const { writer, sequence, atMs, actor, action, subject, changes, previousHash } = entry;
  return digest(
    'sha256',
    previousHash,
    JSON.stringify([writer, sequence, atMs, actor, action, subject, changes]),
  );
}

/** The sequence number that the writer's next audit entry will have. */
export async function nextAuditSequence(reader: RecordReader, writer: string): Promise<number> {
  const [last] = await reader.find('audit', { writer }, { descending: true, limit: 1 });
  return (last?.sequence ?? 0) + 1;
}

/** Closes a transaction with its entry in the writer's chain. */
export async function appendAudit(
  raw: RecordWriter,
  writer: string,
  atMs: number,
  deed: Deed,
  changes: readonly Change[],
): Promise<void> {
  const [last] = await raw.find('audit', { writer }, { descending: true, limit: 1 });
  const entry = {
    writer,
    sequence: (last?.sequence ?? 0) + 1,
    atMs,
    actor: JSON.stringify(deed.actor),
    action: deed.action,
    subject: JSON.stringify(deed.subject),
    changes: JSON.stringify(changes),
    previousHash: last?.hash ?? new Uint8Array(32),
  };
  await raw.insert('audit', { ...entry, hash: auditHash(entry) });
}
