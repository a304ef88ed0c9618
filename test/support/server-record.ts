import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { noPolicy, type PolicyTable } from '../../store/api/policy.ts';
import type { AuditKey } from '../../store/engine/audit-key.ts';
import { CommitDraft } from '../../store/engine/commit-draft.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { checkRead, checkWrite } from '../../store/engine/guards.ts';
import { readHeads } from '../../store/engine/heads.ts';
import { newSeed } from '../../store/engine/ids.ts';
import { inOrder, LoadedRows, rowsOf } from '../../store/engine/loaded.ts';
import type { AuditHeader, Heads, RecordReader } from '../../store/engine/record.ts';
import {
  type Load,
  type Lock,
  type OutcomeSeal,
  type Rule,
  type RuleContext,
  shared,
} from '../../store/engine/rule.ts';
import { auditHeaderOf, noSeal, repeatable } from '../../store/engine/run-rule.ts';
import { type RowChange, Workspace } from '../../store/engine/workspace.ts';
import { hasValues } from '../../store/schema/rows.ts';
import { MemoryRows } from './memory.ts';

/** Resolves when the step that comes next may be taken: a test decides whose it is. */
export type Schedule = () => Promise<void>;

/** How often a rule is run again whose locks were not those that it turned out to need. */
const attemptsMax = 3;

/**
 * A record as a database server keeps it, in memory: several writers at once, locks by name, every load on a state of its own,
 * commits that become visible late. It holds each rule to what it declares. Nothing of it outlives the process.
 */
export class ServerRecord {
  readonly #rows = new MemoryRows();
  readonly #locks = new LockTable();
  readonly #schedule: Schedule;
  readonly #isLeftOut: (action: string, lock: Lock) => boolean;

  /** `isLeftOut`: locks that rules are not given, so that tests can see that they are needed. */
  constructor(
    schedule: Schedule = () => Promise.resolve(),
    isLeftOut: (action: string, lock: Lock) => boolean = () => false,
  ) {
    this.#schedule = schedule;
    this.#isLeftOut = isLeftOut;
  }

  /** One connection, with streams of events and audit entries of its own; its transactions follow one another. */
  connect(options: { readonly writer: string; readonly clock: Clock }): RecordDatabase {
    return new Connection({
      ...options,
      rows: this.#rows,
      locks: this.#locks,
      schedule: this.#schedule,
      isLeftOut: this.#isLeftOut,
    });
  }
}

class Connection implements RecordDatabase {
  readonly writer: string;
  readonly #clock: Clock;
  readonly #rows: MemoryRows;
  readonly #locks: LockTable;
  readonly #schedule: Schedule;
  readonly #isLeftOut: (action: string, lock: Lock) => boolean;
  #seal: JournalSeal | null = null;
  #auditKey: AuditKey | null = null;
  #policy: PolicyTable = noPolicy;
  #outcomeSeal: OutcomeSeal = noSeal;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: {
    readonly writer: string;
    readonly clock: Clock;
    readonly rows: MemoryRows;
    readonly locks: LockTable;
    readonly schedule: Schedule;
    readonly isLeftOut: (action: string, lock: Lock) => boolean;
  }) {
    this.#isLeftOut = options.isLeftOut;
    this.writer = options.writer;
    this.#clock = options.clock;
    this.#rows = options.rows;
    this.#locks = options.locks;
    this.#schedule = options.schedule;
  }

  sealWith(seal: JournalSeal): void {
    this.#seal = seal;
  }

  authenticateWith(key: AuditKey): void {
    this.#auditKey = key;
  }

  sealOutcomesWith(seal: OutcomeSeal): void {
    this.#outcomeSeal = seal;
  }

  decideBy(policy: PolicyTable): void {
    this.#policy = policy;
  }

  async read<R>(body: (reader: RecordReader) => R | Promise<R>): Promise<R> {
    this.#refuseClosed();
    await this.#schedule();
    return repeatable(body)(this.#rows.copy());
  }

  run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    const seed = newSeed();
    return this.#next(async () => {
      for (let attempt = 1; ; attempt++) {
        const outcome = await this.#attempt(rule, input, { nowMs, seed });
        if (outcome !== undefined) return outcome.value;
        if (attempt === attemptsMax)
          throw new PkiError('overloaded', 'the record changes too fast: try again');
      }
    });
  }

  async preview<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    const located = await this.#load(rule.locate?.(input) ?? []);
    const loaded = await this.#load(rule.loads(input, located, this.writer));
    const workspace = new Workspace(loaded, this.#from(newSeed()));
    return rule.decide(input, workspace, this.#context(nowMs));
  }

  async probe(): Promise<void> {
    this.#refuseClosed();
  }

  /** A server decides in another process. */
  readonly busyMs = 0;

  get knownHead(): Heads {
    return readHeads(this.#rows, this.writer);
  }

  async integrity(): Promise<string | undefined> {
    return undefined;
  }

  async close(): Promise<void> {
    await this.#last;
    this.#isClosed = true;
  }

  #from(seed: Bytes): ConstructorParameters<typeof Workspace>[1] {
    return { writer: this.writer, heads: readHeads(this.#rows, this.writer), seed };
  }

  #context(nowMs: number): RuleContext {
    return { nowMs, decidedMs: nowMs, server: null, policy: this.#policy, seal: this.#outcomeSeal };
  }

  /** undefined where what was located was wrong by the time the locks were held. */
  async #attempt<Input, Outcome>(
    rule: Rule<Input, Outcome>,
    input: Input,
    { nowMs, seed }: { readonly nowMs: number; readonly seed: Bytes },
  ): Promise<{ readonly value: Outcome } | undefined> {
    const locksOf = (located: RecordReader): Lock[] => [
      ...rule.locks(input, located, this.writer).filter((lock) => !this.#isLeftOut(rule.action, lock)),
      shared('record'),
    ];
    const locks = locksOf(await this.#load(rule.locate?.(input) ?? []));
    const release = await this.#locks.take(locks);
    try {
      const located = await this.#load(rule.locate?.(input) ?? []);
      const held = new Set(locks.map(({ name }) => name));
      if (locksOf(located).some(({ name }) => !held.has(name))) return undefined;
      const loaded = await this.#load(rule.loads(input, located, this.writer), locks);
      const workspace = new Workspace(loaded, this.#from(seed));
      const value = rule.decide(input, workspace, this.#context(nowMs));
      for (const change of workspace.changes) checkWrite(change, locks);
      await this.#commit(workspace, auditHeaderOf(rule, input, this.writer));
      return { value };
    } finally {
      release();
    }
  }

  /** Every load sees what is committed at its own moment. */
  async #load(loads: readonly Load[], locks?: readonly Lock[]): Promise<LoadedRows> {
    const loaded = new LoadedRows();
    const order = inOrder(loads);
    for (let next = order.next([]); !next.done; ) {
      await this.#schedule();
      const rows = rowsOf(this.#rows, next.value);
      if (locks) checkRead(next.value, rows, locks);
      loaded.note(next.value, rows);
      next = order.next(rows);
    }
    return loaded;
  }

  /** Refuses to write over what was read and is not there any more: no lock guarded it. */
  async #commit(workspace: Workspace, header: AuditHeader): Promise<void> {
    await this.#schedule();
    for (const change of workspace.changes) this.#checkUnchanged(change);
    this.#rows.begin();
    try {
      const draft = new CommitDraft(this.#rows, this.#seal);
      const heads = draft.apply(workspace, header);
      draft.close({ writer: this.writer, heads, nowMs: this.#clock.wallMs(), key: this.#auditKey });
    } catch (error) {
      this.#rows.undo();
      throw error;
    }
    await this.#schedule();
  }

  #checkUnchanged({ table, key, before }: RowChange): void {
    const stored = this.#rows.get(table, key);
    if (!before && stored) throw new Error(`another transaction inserted the row of ${table} meanwhile`);
    if (!before) return;
    const isSame = stored !== undefined && hasValues(stored, before);
    if (!isSame) throw new Error(`another transaction changed the row of ${table} meanwhile`);
  }

  #next<R>(act: () => Promise<R>): Promise<R> {
    const result = this.#last.then(async () => {
      this.#refuseClosed();
      return act();
    });
    this.#last = result.catch(() => undefined);
    return result;
  }

  #refuseClosed(): void {
    if (this.#isClosed) throw new PkiError('record-unavailable', 'the record is closed');
  }
}

interface Held {
  exclusive: boolean;
  shared: number;
  readonly waiting: { readonly lock: Lock; readonly granted: () => void }[];
}

/** Locks by name, taken in the order of their names, so that no two transactions wait for each other; first come, first served. */
class LockTable {
  readonly #held = new Map<string, Held>();

  /** Resolves with what releases them. */
  async take(locks: readonly Lock[]): Promise<() => void> {
    const strongest = new Map<string, Lock>();
    for (const lock of locks)
      if (strongest.get(lock.name)?.mode !== 'exclusive') strongest.set(lock.name, lock);
    const sorted = [...strongest.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const lock of sorted) await this.#takeOne(lock);
    return () => {
      for (const lock of sorted) this.#release(lock);
    };
  }

  async #takeOne(lock: Lock): Promise<void> {
    const held = this.#held.get(lock.name) ?? { exclusive: false, shared: 0, waiting: [] };
    this.#held.set(lock.name, held);
    if (held.waiting.length === 0 && grant(held, lock)) return;
    await new Promise<void>((resolve) => held.waiting.push({ lock, granted: resolve }));
  }

  #release({ name, mode }: Lock): void {
    const held = this.#held.get(name);
    if (!held) return;
    if (mode === 'exclusive') held.exclusive = false;
    else held.shared -= 1;
    for (let first = held.waiting[0]; first && grant(held, first.lock); first = held.waiting[0]) {
      held.waiting.shift();
      first.granted();
    }
  }
}

/** Takes a lock where it is free. */
function grant(held: Held, { mode }: Lock): boolean {
  if (held.exclusive || (mode === 'exclusive' && held.shared > 0)) return false;
  if (mode === 'exclusive') held.exclusive = true;
  else held.shared += 1;
  return true;
}
