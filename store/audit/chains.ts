import { hex } from '../../core/runtime/bytes.ts';
import { actsOfEntry, entryFault, genesis, type Position, rowsOfEntry } from '../engine/audit-entry.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row, TableName } from '../schema/schema.ts';
import type { TableSum, TableSums } from './digest-sum.ts';
import { AuditFailure, type AuditHead } from './finding.ts';
import { schema3Fault } from './schema-3.ts';

/** Entries read at a time. */
const pageSize = 1000;

/** Action of the entry that carries the sums of the rows from before a migration. */
export const migrateAction = 'migrate';

/**
 * Walks the chains of all writers, and sums up what their entries say of the rows. Memory: a page of entries, whatever the length
 * of the chains. Throws `AuditFailure` at the first entry that is wrong.
 */
export class ChainWalk {
  readonly #key: AuditKey | null;
  readonly #sums: TableSums;
  readonly #positions = new Map<string, Position>();
  /** Hashes that were signed, by writer and sequence. */
  readonly #signed: ReadonlyMap<string, string>;
  entries = 0;

  constructor(options: {
    readonly key: AuditKey | null;
    readonly sums: TableSums;
    readonly checkpoints: readonly AuditHead[];
  }) {
    this.#key = options.key;
    this.#sums = options.sums;
    this.#signed = new Map(
      options.checkpoints.map(({ writer, sequence, hash }) => [`${writer}/${sequence}`, hash]),
    );
  }

  get heads(): AuditHead[] {
    return [...this.#positions].map(([writer, { sequence, hash }]) => ({
      writer,
      sequence,
      hash: hex(hash),
    }));
  }

  /** Walks each chain to its end, once. */
  run(reader: RecordReader): void {
    for (const writer of writersOf(reader)) {
      for (const _ of this.ofSchema3(reader, writer));
      for (const entry of pagesOf(reader, 'audit', writer, this.#after(writer))) {
        this.#refuse(entry, entryFault(entry, this.#after(writer), this.#key));
        this.#addSums(entry);
        this.#arrive(entry);
      }
    }
  }

  #after(writer: string): Position {
    return this.#positions.get(writer) ?? genesis;
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
    if (signed !== undefined && signed !== hex(hash))
      throw new AuditFailure('checkpoint', where, 'it is not the entry of a signed checkpoint');
  }

  #addSums(entry: Row<'audit'>): void {
    for (const { table, before, after } of rowsOfEntry(entry)) {
      if (before) this.#sums.subtract(table, before);
      if (after) this.#sums.add(table, after);
    }
    for (const sums of migratedSums(entry)) this.#sums.addSums(sums);
  }
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
