import { equal, fromHex, hex } from '../../core/runtime/bytes.ts';
import {
  type AuditedRow,
  actsOfEntry,
  entryFault,
  genesis,
  type Position,
  rowsOfEntry,
} from '../engine/audit-entry.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row, TableName } from '../schema/schema.ts';
import type { TableSum } from './digest-sum.ts';
import { AuditFailure, type AuditHead } from './finding.ts';
import { schema3Fault } from './schema-3.ts';

/** Entries read at a time: one of a large commit is of some hundred kilobytes. */
const pageSize = 100;

/** Action of the entry that carries the sums of the rows from before a migration. */
export const migrateAction = 'migrate';

/** Entries walked before it is asked whether to go on. */
const entriesAtOnce = 100;

/**
 * Walks the chains of all writers, and says what their entries say of the rows. Memory: a page of entries, whatever the length of the
 * chains. Throws `AuditFailure` at the first entry that is wrong.
 */
export class ChainWalk {
  readonly #key: AuditKey | null;
  readonly #row: (row: AuditedRow) => void;
  readonly #migrated: (sums: Partial<Record<TableName, TableSum>>) => void;
  readonly #positions = new Map<string, Position>();
  readonly #checkpoints: readonly AuditHead[];
  /** Hashes that were signed, by writer and sequence. */
  readonly #signed: ReadonlyMap<string, string>;
  #isResumed: boolean;
  entries = 0;

  /** `row` is called for each row of each entry; `migrated` with the sums of the rows that a migration found. `from`: where an earlier walk stood. */
  constructor(options: {
    readonly key: AuditKey | null;
    readonly checkpoints: readonly AuditHead[];
    readonly row?: (row: AuditedRow) => void;
    readonly migrated?: (sums: Partial<Record<TableName, TableSum>>) => void;
    readonly from?: { readonly heads: readonly AuditHead[]; readonly entries: number } | undefined;
  }) {
    this.#key = options.key;
    this.#row = options.row ?? (() => undefined);
    this.#migrated = options.migrated ?? (() => undefined);
    this.#checkpoints = options.checkpoints;
    this.#signed = new Map(
      options.checkpoints.map(({ writer, sequence, hash }) => [`${writer}/${sequence}`, hash]),
    );
    this.#isResumed = options.from !== undefined;
    this.entries = options.from?.entries ?? 0;
    for (const { writer, sequence, hash } of options.from?.heads ?? [])
      this.#positions.set(writer, { sequence, hash: fromHex(hash) });
  }

  get heads(): AuditHead[] {
    return [...this.#positions].map(([writer, { sequence, hash }]) => ({
      writer,
      sequence,
      hash: hex(hash),
    }));
  }

  /** Walks each chain to its end, or until `isOver`. Whether it came to the ends. May be called again, when the record has gone on. */
  run(reader: RecordReader, isOver: () => boolean = () => false): boolean {
    this.#refuseOtherSigned(reader);
    for (const writer of writersOf(reader)) {
      this.#refuseAnother(reader, writer);
      for (const _ of this.#entriesOf(reader, writer))
        if (this.entries % entriesAtOnce === 0 && isOver()) return false;
    }
    return true;
  }

  /** Throws `AuditFailure` where a chain ends before what was signed of it. */
  refuseCut(): void {
    for (const { writer, sequence } of this.#checkpoints)
      if (this.#after(writer).sequence < sequence)
        throw new AuditFailure(
          'checkpoint',
          `${writer}/${sequence}`,
          'the chain ends before a signed checkpoint',
        );
  }

  #after(writer: string): Position {
    return this.#positions.get(writer) ?? genesis;
  }

  /** Where a chain was walked to before, it must still be the same. */
  #refuseAnother(reader: RecordReader, writer: string): void {
    const { sequence, hash } = this.#after(writer);
    if (sequence === 0) return;
    const found = entryAt(reader, writer, sequence);
    if (!found || !equal(found.hash, hash))
      throw new AuditFailure(
        'entry',
        `${writer}/${sequence}`,
        'it is gone, or another than when it was verified',
      );
  }

  /** An earlier process may have had other checkpoints: those of what it walked are looked up. */
  #refuseOtherSigned(reader: RecordReader): void {
    if (!this.#isResumed) return;
    this.#isResumed = false;
    for (const { writer, sequence, hash } of this.#checkpoints) {
      if (sequence > this.#after(writer).sequence) continue;
      const found = entryAt(reader, writer, sequence);
      if (!found || hex(found.hash) !== hash) throw otherThanSigned(`${writer}/${sequence}`);
    }
  }

  *#entriesOf(reader: RecordReader, writer: string): Iterable<unknown> {
    yield* this.ofSchema3(reader, writer);
    for (const entry of pagesOf(reader, 'audit', writer, this.#after(writer))) {
      this.#refuse(entry, entryFault(entry, this.#after(writer), this.#key));
      for (const row of rowsOfEntry(entry)) this.#row(row);
      for (const sums of migratedSums(entry)) this.#migrated(sums);
      this.#arrive(entry);
      yield entry;
    }
  }

  /** A writer's entries of schema 3, each verified as it comes. */
  *ofSchema3(reader: RecordReader, writer: string): Iterable<Row<'auditOfSchema3'>> {
    for (const entry of pagesOf(reader, 'auditOfSchema3', writer, this.#after(writer))) {
      this.#refuse(entry, schema3Fault(entry, this.#after(writer)));
      this.#arrive(entry);
      yield entry;
    }
  }

  #arrive({ writer, sequence, hash }: Position & { readonly writer: string }): void {
    this.#positions.set(writer, { sequence, hash });
    this.entries += 1;
  }

  #refuse(
    { writer, sequence, hash }: Position & { readonly writer: string },
    fault: string | undefined,
  ): void {
    const where = `${writer}/${sequence}`;
    if (fault !== undefined) throw new AuditFailure('entry', where, fault);
    const signed = this.#signed.get(where);
    if (signed !== undefined && signed !== hex(hash)) throw otherThanSigned(where);
  }
}

const otherThanSigned = (where: string): AuditFailure =>
  new AuditFailure('checkpoint', where, 'it is not the entry of a signed checkpoint');

/** An entry of a chain, of whatever schema. */
function entryAt(reader: RecordReader, writer: string, sequence: number) {
  const at = { after: sequence - 1, limit: 1 };
  return [...reader.find('audit', { writer }, at), ...reader.find('auditOfSchema3', { writer }, at)].find(
    (entry) => entry.sequence === sequence,
  );
}

/** The sums with which a migration began, in an entry of one. */
export function* migratedSums({
  acts,
}: Pick<Row<'audit'>, 'acts'>): Iterable<Partial<Record<TableName, TableSum>>> {
  if (!acts.includes(`"${migrateAction}"`)) return;
  for (const { action, subject } of actsOfEntry({ acts }))
    if (action === migrateAction) yield subject.tables as Partial<Record<TableName, TableSum>>;
}

/** Writers by name: of the record, so that a chain cannot vanish whole. */
export function writersOf(reader: RecordReader): string[] {
  const meta = reader.find('meta', {});
  return meta.filter(({ name }) => name.startsWith('writer:')).map(({ value }) => value);
}

/** A writer's entries from behind a position on, read by the page. */
export function* pagesOf<T extends 'audit' | 'auditOfSchema3'>(
  reader: RecordReader,
  table: T,
  writer: string,
  { sequence }: Pick<Position, 'sequence'> = genesis,
): Iterable<Row<T>> {
  let after = sequence;
  for (let more = true; more; ) {
    const page = reader.find<'audit' | 'auditOfSchema3'>(table, { writer }, { after, limit: pageSize });
    for (const entry of page) {
      after = entry.sequence;
      yield entry as Row<T>;
    }
    more = page.length === pageSize;
  }
}
