import { PkiError } from '../../core/runtime/errors.ts';
import type { AuditedRow } from '../engine/audit-entry.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import { keyValues, rowDigest } from '../schema/digest.ts';
import type { Row, TableName } from '../schema/schema.ts';
import { findAlteredRow } from './altered-row.ts';
import { ChainWalk } from './chains.ts';
import { type TableSum, TableSums } from './digest-sum.ts';
import { AuditFailure, type AuditHead } from './finding.ts';
import { auditedTables, keyOrder, pageAfter, pageSize } from './table-rows.ts';

// One verification of the whole record, in slices: each slice reads one state of the record, and the record may be written between
// two of them. Invariants:
//
// - Rows are read only in a state whose chains were walked to their ends.
// - For each table: the sum of what entries say of rows that are not read yet, less the sum of the rows that were read. An entry
//   about a row that was read changes nothing: it would be added to both.
// - Where a table has been read to its end this difference is zero, or a row is not as its entries say.
//
// A row that is altered after it was read is found by the next pass, as it would be were the whole record read at one moment.

/** What a pass knows between two slices; it survives the process that made it. JSON. */
export interface PassState {
  readonly heads: readonly AuditHead[];
  /** Of each table: see above. */
  readonly differences: Readonly<Record<string, TableSum>>;
  /** Tables that were read to their ends. */
  readonly tablesRead: number;
  /** Key of the last row that was read of the table after those: octets as hex. */
  readonly after: readonly (string | number)[] | null;
  readonly entries: number;
  readonly rows: number;
}

/** How far a pass is. */
export interface PassProgress {
  readonly entries: number;
  readonly rows: number;
  /** Rows that the entries say there are; known once the chains were walked. */
  readonly rowsInAll: number | undefined;
}

export class AuditPass {
  readonly #key: AuditKey;
  readonly #walk: ChainWalk;
  readonly #differences: TableSums;
  #tablesRead = 0;
  #after: readonly (string | number)[] | null = null;
  #rows = 0;
  #hasWalked = false;
  /** Whether the chains were compared with the checkpoints that this process was given. */
  #isCutChecked = false;

  /** `key` sums rows, `entryKey` authenticates entries; null: they are not. With a `state` it continues from there. */
  constructor(options: {
    readonly key: AuditKey;
    readonly entryKey: AuditKey | null;
    readonly checkpoints: readonly AuditHead[];
    readonly state?: PassState | undefined;
  }) {
    const { key, entryKey, checkpoints, state } = options;
    this.#key = key;
    this.#differences = new TableSums(key);
    this.#walk = new ChainWalk({
      key: entryKey,
      checkpoints,
      row: (row) => this.#note(row),
      migrated: (sums) => this.#differences.addSums(sums),
      from: state,
    });
    if (!state) return;
    this.#differences.addSums(state.differences);
    this.#tablesRead = state.tablesRead;
    this.#after = state.after;
    this.#rows = state.rows;
    this.#hasWalked = state.tablesRead > 0 || state.after !== null;
  }

  get state(): PassState {
    return {
      heads: this.#walk.heads,
      differences: this.#differences.all,
      tablesRead: this.#tablesRead,
      after: this.#after,
      entries: this.#walk.entries,
      rows: this.#rows,
    };
  }

  get heads(): AuditHead[] {
    return this.#walk.heads;
  }

  get progress(): PassProgress {
    const left = auditedTables.slice(this.#tablesRead).map((table) => this.#differences.rowsOf(table));
    const rowsInAll = this.#hasWalked ? left.reduce((sum, rows) => sum + rows, this.#rows) : undefined;
    return { entries: this.#walk.entries, rows: this.#rows, rowsInAll };
  }

  /**
   * Continues, in one state of the record, until `isOver`; at least by a page of entries, or of rows. True once all was verified. Throws
   * `AuditFailure` with the first thing that is wrong.
   */
  slice(reader: RecordReader, isOver: () => boolean): boolean {
    if (!this.#walk.run(reader, isOver)) return false;
    if (!this.#isCutChecked) this.#walk.refuseCut();
    this.#isCutChecked = true;
    this.#hasWalked = true;
    for (;;) {
      const table = auditedTables[this.#tablesRead];
      if (table === undefined) return true;
      this.#readPage(reader, table);
      if (isOver()) return this.#tablesRead === auditedTables.length;
    }
  }

  #readPage(reader: RecordReader, table: TableName): void {
    const page = this.#pageOf(reader, table);
    this.#rows += page.length;
    const last = page.at(-1);
    if (last) this.#after = keyValues(table, last);
    if (page.length === pageSize) return;
    this.#after = null;
    this.#tablesRead += 1;
    const { sum, rows } = this.#differences.of(table);
    if (rows !== 0 || BigInt(`0x${sum}`) !== 0n) findAlteredRow(reader, table, this.#key);
  }

  #pageOf(reader: RecordReader, table: TableName): readonly Row<TableName>[] {
    try {
      const page = pageAfter(reader, table, this.#after);
      for (const row of page) this.#differences.subtract(table, rowDigest(table, row));
      return page;
    } catch (error) {
      if (error instanceof PkiError && error.code === 'record-unavailable') throw error;
      // Values that no row of this software has, and that hide the rows behind them.
      throw new AuditFailure('row', table, `a row cannot be read: ${(error as Error).message}`);
    }
  }

  #note({ table, key, before, after }: AuditedRow): void {
    if (this.#wasRead(table, key)) return;
    if (before) this.#differences.subtract(table, before);
    if (after) this.#differences.add(table, after);
  }

  #wasRead(table: TableName, key: readonly (string | number)[]): boolean {
    const place = places.get(table) ?? 0;
    if (place !== this.#tablesRead) return place < this.#tablesRead;
    return this.#after !== null && keyOrder(key, this.#after) <= 0;
  }
}

const places: ReadonlyMap<string, number> = new Map(auditedTables.map((table, place) => [table, place]));
