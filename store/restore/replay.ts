import type { JournalContent } from '../../core/feed/journal-content.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Transaction } from '../engine/record.ts';
import { byKey, type Load } from '../engine/rule.ts';
import { isKnownHolder, knownHolderLoads } from '../rules/holders.ts';
import {
  columnsOfView,
  type ReplicatedRow,
  type ReplicatedTable,
  type ReplicatedTransaction,
  replicated,
  replicatedValue,
} from '../schema/replicated.ts';
import { columnsOf, describe, type Key, type Row } from '../schema/schema.ts';

// What the followers' journals hold for the CA alone, brought back into a restored record.

type Values = Readonly<Record<string, string | number | Uint8Array | null>>;

/** What was replicated of certificates besides their status, by `nameOf`. */
export interface ReplicatedCertificates {
  /** Columns of the row. */
  readonly facts: ReadonlyMap<string, Values>;
  /** What holds it, as in the row. */
  readonly heldBy: ReadonlyMap<string, string | null>;
}

/** Everything that was replicated since a backup. */
export interface Replicated {
  readonly certificates: ReplicatedCertificates;
  /** Rows of all other tables, the last word on each. */
  readonly rows: readonly { readonly table: ReplicatedTable; readonly values: Values }[];
}

export const nameOf = ({ authority, epoch, position }: CertificateId): string =>
  JSON.stringify([authority, epoch, position]);

/** Where a backup ends: it has what was replicated before, or something later. */
export interface BackupEnd {
  readonly incarnation: string;
  readonly position: number;
}

/** Opens what journals hold from behind a backup, oldest first. Throws `bad-request` where it was not sealed by this CA. */
export function openReplicated(
  sealed: JournalContent['sealed'],
  seal: JournalSeal | null,
  of: { readonly end: BackupEnd; readonly ordinals: ReadonlyMap<string, number> },
): Replicated {
  const { end, ordinals } = of;
  const ordinalOf = (incarnation: string): number => ordinals.get(incarnation) ?? 0;
  const unique = new Map(sealed.map(({ text, incarnation }) => [text, incarnation]));
  const opened = seal
    ? [...unique].map(([text, incarnation]) => {
        const transaction = JSON.parse(seal.open(text)) as ReplicatedTransaction;
        return { ...transaction, incarnation, ordinal: ordinalOf(incarnation) };
      })
    : [];
  // By where it stands, never by when it was: two people may have taken the time back.
  const transactions = opened
    .filter(({ incarnation, position, ordinal }) =>
      incarnation === end.incarnation ? position > end.position : ordinal > ordinalOf(end.incarnation),
    )
    .sort((a, b) => a.ordinal - b.ordinal || a.position - b.position);
  const facts = new Map<string, Values>();
  const heldBy = new Map<string, string | null>();
  const rows = new Map<string, { table: ReplicatedTable; values: Values }>();
  for (const row of transactions.flatMap((transaction) => transaction.rows)) {
    const [table, view] = row;
    const values = valuesOf(row);
    if (table !== 'certificate') {
      const key = JSON.stringify([
        table,
        describe(table).key.map((name) => replicatedValue(values[name] ?? null)),
      ]);
      rows.set(key, { table, values });
    } else if (view === 0) facts.set(nameOf(values as unknown as CertificateId), values);
    else heldBy.set(nameOf(values as unknown as CertificateId), values.heldBy as string | null);
  }
  return { certificates: { facts, heldBy }, rows: [...rows.values()] };
}

function valuesOf([table, view, values]: ReplicatedRow): Values {
  if (!Object.hasOwn(replicated, table))
    throw new PkiError('bad-request', `a journal has rows of ${table}, which this version does not know`);
  const entries = columnsOfView(table, view).map((name, i): [string, Values[string]] => {
    const value = values[i] ?? null;
    return [name, typeof value === 'object' && value !== null ? Buffer.from(value[0], 'base64') : value];
  });
  return Object.fromEntries(entries);
}

/**
 * Writes one replicated row over what there is; columns of a new row that were not replicated are empty. Gives whether anything is other than
 * it was.
 */
export function replay(
  tx: Transaction,
  { table, values }: Replicated['rows'][number],
  nowMs: number,
): boolean {
  // Of a certificate that was never completed nothing is out.
  if (table === 'publicKey' && !isCertifiedOrBlocked(tx, values)) return false;
  const { holderId } = values;
  if (typeof holderId === 'string' && !isKnownHolder(tx, holderId))
    tx.insert('holder', { holderId, createdMs: nowMs });
  const key = values as unknown as Key<ReplicatedTable>;
  const before = tx.get(table, key);
  const empty = Object.fromEntries(columnsOf(table).map((name) => [name, defaults[name] ?? null]));
  // An unfinished operation restarts from the beginning, and so does its count.
  const counted = table === 'massAct' && values.state !== 'done' ? { phones: 0, certificates: 0 } : {};
  const after = { ...(before ?? empty), ...values, ...counted } as unknown as Row<ReplicatedTable>;
  if (!before) tx.insert(table, after);
  else if (!isSame(before, after)) tx.update(table, after, before);
  return before === undefined || !isSame(before, after);
}

/** What `replay` reads for a row. */
export function replayLoads({ table, values }: Replicated['rows'][number]): readonly Load[] {
  const { holderId, authority } = values;
  const certificate = values as unknown as CertificateId;
  return [
    byKey(table, keyIn(table, values)),
    ...(typeof holderId === 'string' ? knownHolderLoads(holderId) : []),
    ...(table === 'publicKey' && authority !== null ? [byKey('certificate', keyOf(certificate))] : []),
  ];
}

function keyIn<T extends ReplicatedTable>(table: T, values: Values): Key<T> {
  return Object.fromEntries(describe(table).key.map((name) => [name, values[name]])) as unknown as Key<T>;
}

/** Of columns that are never empty and are not replicated. */
const defaults: Values = { phones: 0, certificates: 0 };

function isCertifiedOrBlocked(tx: Transaction, values: Values): boolean {
  const { blockedMs, authority, epoch, position } = values;
  if (blockedMs !== null || authority === null) return true;
  const key = { authority, epoch, position } as CertificateId;
  return tx.get('certificate', key) !== undefined;
}

/** Whether two rows have the same values. */
export function isSame(a: object, b: object): boolean {
  const [left, right] = [a as Values, b as Values];
  return Object.keys({ ...left, ...right }).every((name) => {
    const [x, y] = [replicatedValue(left[name] ?? null), replicatedValue(right[name] ?? null)];
    return JSON.stringify(x) === JSON.stringify(y);
  });
}
