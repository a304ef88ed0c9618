import type { Actor, Sealed } from '../../core/model/act.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { PolicyTable } from '../api/policy.ts';
import type { Key, Row, TableName } from '../schema/schema.ts';
import type { FindOptions, RecordReader, Transaction } from './record.ts';

// Rules as data. A rule says which locks it needs and what it reads before it decides anything, so that an engine with several
// writers can take the locks, read all of it in a few statements, and only then let the rule decide. Invariants:
//
// - `decide` is a function of its input, of what was loaded, and of its context: it awaits nothing and reads no clock.
// - It may run again, on what is on record by then.
// - It reads nothing that `loads` does not name, and reads and writes nothing that its locks do not guard (`guards.ts`).
//   Tests have the engine refuse both (`checkRules`).

/** A lock by name, held until the transaction has ended. `shared` holders exclude exclusive ones only. */
export interface Lock {
  readonly name: string;
  readonly mode: 'exclusive' | 'shared';
}

export const exclusive = (...name: readonly (string | number)[]): Lock => ({
  name: name.join(':'),
  mode: 'exclusive',
});
/**
 * Excludes every other rule: of what writes rows of all kinds while no service has the record. An engine with several writers
 * takes it `shared` for each rule that does not name it.
 */
export const wholeRecord: Lock = exclusive('record');
export const shared = (...name: readonly (string | number)[]): Lock => ({
  name: name.join(':'),
  mode: 'shared',
});

/** What a rule reads: one row by its key, rows by equality on a prefix of the key or on an index, or such for each row of another. */
export interface Load<T extends TableName = TableName> {
  readonly table: T;
  readonly key?: Key<T>;
  readonly where?: Partial<Row<T>>;
  readonly options?: FindOptions;
  /** What to read for each row that was found. */
  readonly each?: (row: Row<T>) => readonly Load[];
}

export const byKey = <T extends TableName>(
  table: T,
  key: Key<T>,
  each?: (row: Row<T>) => readonly Load[],
): Load => ({ table, key, ...(each ? { each } : {}) }) as unknown as Load;

export const byIndex = <T extends TableName>(
  table: T,
  where: Partial<Row<T>>,
  more: { readonly options?: FindOptions; readonly each?: (row: Row<T>) => readonly Load[] } = {},
): Load => ({ table, where, ...more }) as unknown as Load;

/** Inputs of a decision besides the record. */
export interface RuleContext {
  /** Wall-clock milliseconds of the record. */
  readonly nowMs: number;
  /** When the engine has it decide: `nowMs`, or later where it waited. */
  readonly decidedMs: number;
  /**
   * Which server the record is on, and on which of its timelines: another one after a failover, which may have lost what another node has used
   * already. null where the record is a file.
   */
  readonly server: string | null;
  /** The table of life events. */
  readonly policy: PolicyTable;
  /** Seals an outcome for the request that it is of. */
  readonly seal: OutcomeSeal;
}

/** Seals octets that are bound to `context`, at once. */
export type OutcomeSeal = (context: string, octets: Bytes) => Sealed;

/** One rule of the record. */
export interface Rule<Input, Outcome> {
  /** What the audit chain calls it. */
  readonly action: string;
  /** What it is about, for the audit chain: no personal data. */
  subject(input: Input): Readonly<Record<string, unknown>>;
  /** Who does it; by default the node itself. */
  actor?(input: Input): Actor;
  /** Dates the audit entry before those that are there: see `AuditHeader`. */
  takesBackTo?(input: Input): number;
  /** What the locks follow from, read before any is taken: a hint, which may be wrong by then. */
  locate?(input: Input): readonly Load[];
  /** `writer`: who decides, whose own counters are rows of its own. */
  locks(input: Input, located: RecordReader, writer: string): readonly Lock[];
  loads(input: Input, located: RecordReader, writer: string): readonly Load[];
  /** Throws `PkiError` to refuse: then nothing is written. */
  decide(input: Input, tx: Transaction, context: RuleContext): Outcome;
}
