import { createHash } from 'node:crypto';
import { type Bytes, equal, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import type { Key, Row, TableName } from '../schema/schema.ts';
import type { AuditKey } from './audit-key.ts';
import type { AuditHeader, Heads, RecordWriter } from './record.ts';

// The audit chain: one entry for each commit of a writer, with the acts of its transactions and, for each row that they wrote, the
// digests of the row before and after. Invariants:
//
// - Σ after − Σ before over all chains is Σ over the rows of the record.
// - Each entry follows the one before it by its hash, and is authenticated under the CA's key (`AuditKey`).

/** One transaction as its entry names it. */
export interface AuditedAct extends Pick<AuditHeader, 'actor' | 'action' | 'subject'> {
  /** Number of rows that it wrote; they follow those of the act before. */
  readonly rows: number;
}

/** An act as it is written: one of the same actor as another act of the entry names that act, by its place. */
type WrittenAct = Omit<AuditedAct, 'actor'> & { readonly actor: AuditedAct['actor'] | number };

/**
 * A row as an entry names it: its table, with `+` before it where the row is new and `-` where it was removed, and the values of its key;
 * its table alone where the key is that of the row before. An entry of an earlier version has no signs, and for what is not there a digest
 * of zeros.
 */
type WrittenName = string | readonly [table: string, ...key: (string | number)[]];

const digestOctets = 32;
const absent = Buffer.alloc(digestOctets);

/** Gathers what the entry of one commit will say. */
export class EntryDraft {
  readonly #acts: WrittenAct[] = [];
  /** Places of the acts that name an actor, by the actor as JSON. */
  readonly #actors = new Map<string, number>();
  readonly #names: WrittenName[] = [];
  #lastKey: readonly (string | number)[] = [];
  readonly #digests: Bytes[] = [];
  /** Rows of the transactions that have ended. */
  #ended = 0;
  #takesBackTo: number | undefined;

  add<T extends TableName>(
    table: T,
    key: Key<T>,
    before: Row<T> | undefined,
    after: Row<T> | undefined,
  ): void {
    const name = before && after ? table : `${after ? '+' : '-'}${table}`;
    const values = keyValues(table, key);
    this.#names.push(isSame(values, this.#lastKey) ? name : [name, ...values]);
    this.#lastKey = values;
    if (before) this.#digests.push(rowDigest(table, before));
    if (after) this.#digests.push(rowDigest(table, after));
  }

  /** Ends one transaction: what was added since the one before is its. One that wrote nothing is named only if `always`. */
  close(
    { actor, action, subject, takesBackTo }: AuditHeader,
    named: 'where-it-wrote' | 'always' = 'where-it-wrote',
  ): void {
    const rows = this.#names.length - this.#ended;
    this.#ended = this.#names.length;
    if (rows === 0 && named !== 'always') return;
    const text = JSON.stringify(actor);
    const known = this.#actors.get(text);
    if (known === undefined) this.#actors.set(text, this.#acts.length);
    this.#acts.push({ actor: known ?? actor, action, subject, rows });
    this.#takesBackTo = takesBackTo ?? this.#takesBackTo;
  }

  /** Writes the entry, if there is anything to say. Returns the new heads. */
  write(
    rows: RecordWriter,
    at: {
      readonly writer: string;
      readonly heads: Heads;
      readonly nowMs: number;
      readonly key: AuditKey | null;
    },
  ): Heads {
    const { writer, heads, nowMs, key } = at;
    if (this.#acts.length === 0) return heads;
    // Recorded time never decreases, so that a clock that was set back is detected.
    const atMs = this.#takesBackTo ?? Math.max(nowMs, heads.atMs);
    const content = {
      writer,
      sequence: heads.sequence + 1,
      atMs,
      acts: JSON.stringify(this.#acts),
      rows: JSON.stringify(this.#names),
      digests: Buffer.concat(this.#digests),
      previousHash: heads.hash,
    };
    const hash = entryHash(content);
    rows.insert('audit', { ...content, hash, mac: key?.authenticate(hash) ?? new Uint8Array(0) });
    return { ...heads, sequence: content.sequence, hash, atMs };
  }
}

/** SHA-256 over the previous entry's hash and every other column of this one, but for the code that authenticates it. */
export function entryHash(entry: Omit<Row<'audit'>, 'hash' | 'mac'>): Bytes {
  const { writer, sequence, atMs, acts, rows, digests, previousHash } = entry;
  const head = [hex(previousHash), writer, sequence, atMs, acts.length, rows.length, digests.length];
  return createHash('sha256')
    .update(`${JSON.stringify(head)}${acts}${rows}`)
    .update(digests)
    .digest();
}

/** An entry's place in its chain. */
export type Position = Pick<Heads, 'sequence' | 'hash'>;

/** Before the first entry. */
export const genesis: Position = { sequence: 0, hash: new Uint8Array(32) };

/** What is wrong with an entry that should follow another, by the hash of its content; undefined where nothing is. */
export function linkFault(
  entry: Pick<Row<'audit'>, 'sequence' | 'previousHash' | 'hash'>,
  before: Position,
  contentHash: Bytes,
): string | undefined {
  if (entry.sequence !== before.sequence + 1) return 'an entry is missing';
  if (!equal(entry.previousHash, before.hash)) return 'it does not follow the entry before it';
  if (!equal(contentHash, entry.hash)) return 'its hash is not that of its content';
  return undefined;
}

/** The same with the code that authenticates the entry; without a key that is not checked. */
export function entryFault(entry: Row<'audit'>, before: Position, key: AuditKey | null): string | undefined {
  const fault = linkFault(entry, before, entryHash(entry));
  if (fault !== undefined) return fault;
  if (key && !equal(key.authenticate(entry.hash), entry.mac)) return 'this CA did not write it';
  return undefined;
}

/** A row that an entry is about, with its digests; null where there was, or is, no row. */
export interface AuditedRow {
  readonly table: TableName;
  readonly key: readonly (string | number)[];
  readonly before: Bytes | null;
  readonly after: Bytes | null;
}

/** The acts of an entry, in order. */
export function actsOfEntry({ acts }: Pick<Row<'audit'>, 'acts'>): readonly AuditedAct[] {
  const written = JSON.parse(acts) as readonly WrittenAct[];
  return written.map((act) => {
    const actor = typeof act.actor === 'number' ? written[act.actor]?.actor : act.actor;
    if (actor === undefined || typeof actor === 'number')
      throw new PkiError('record-unavailable', 'the record was altered: an act of no actor');
    return { ...act, actor };
  });
}

/** The rows of an entry, in order. Its digests are of 32 octets: of each row before, and after, where there is one. */
export function* rowsOfEntry({
  rows,
  digests,
}: Pick<Row<'audit'>, 'rows' | 'digests'>): Iterable<AuditedRow> {
  let at = 0;
  const next = (): Bytes | null => {
    const digest = digests.subarray(at, at + digestOctets);
    at += digestOctets;
    return equal(digest, absent) ? null : digest;
  };
  let key: readonly (string | number)[] = [];
  for (const written of JSON.parse(rows) as readonly WrittenName[]) {
    const [name = '', ...own] = typeof written === 'string' ? [written] : written;
    if (typeof written !== 'string') key = own;
    const sign = name[0];
    const table = (sign === '+' || sign === '-' ? name.slice(1) : name) as TableName;
    const before = sign === '+' ? null : next();
    yield { table, key, before, after: sign === '-' ? null : next() };
  }
}

const isSame = (a: readonly unknown[], b: readonly unknown[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i]);
