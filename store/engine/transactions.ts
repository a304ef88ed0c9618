import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { traced } from '../../core/runtime/tracing.ts';
import { noPolicy, type PolicyTable } from '../api/policy.ts';
import type { AuditKey } from './audit-key.ts';
import { CommitDraft } from './commit-draft.ts';
import { CommitQueue } from './commit-queue.ts';
import type { RecordDatabase } from './database.ts';
import { chainFault, noHeads, readHeads } from './heads.ts';
import { newSeed } from './ids.ts';
import type { AuditHeader, Heads, RecordReader, RecordWriter } from './record.ts';
import { byKey, exclusive, type OutcomeSeal, type Rule, type RuleContext } from './rule.ts';
import { areRulesChecked, auditHeaderOf, decideAlone, noSeal, repeatable } from './run-rule.ts';
import type { Workspace } from './workspace.ts';

/** What an implementation of the record supplies; `TransactionQueue` makes a `RecordDatabase` of it. */
export interface Backend {
  readonly rows: RecordWriter;
  begin(): void;
  /** Within a transaction: whether anything was committed by another connection since this was last asked. */
  changedByOthers(): boolean;
  /** Makes the transaction visible to readers. */
  commit(): void;
  /** Resolves once whatever was committed is on disk. */
  sync(): Promise<void>;
  rollback(): void;
  /** Runs `body` on one consistent state of what is committed. */
  read<R>(body: (reader: RecordReader) => R | Promise<R>): Promise<R>;
  integrity(): string | undefined;
  close(): void | Promise<void>;
  /** Translates what the database throws when it cannot be used. */
  translate(error: unknown): unknown;
}

interface Waiting {
  /** Says what is to be written; throws to refuse. May run again. */
  readonly decide: (heads: Heads) => Workspace;
  readonly header: AuditHeader;
  readonly commit: () => void;
  readonly fail: (error: unknown) => void;
}

/** Writes where the last commit failed, to see whether this one does. */
const probe: Rule<{ readonly isWriting: boolean; readonly atMs: number }, void> = {
  action: 'probe',
  subject: () => ({}),
  locks: () => [exclusive('meta', 'probe')],
  loads: () => [byKey('meta', { name: 'probe' })],
  decide: ({ isWriting, atMs }, tx) => {
    if (!isWriting) return;
    const row = { name: 'probe', value: String(atMs) };
    const before = tx.get('meta', { name: row.name });
    if (before) tx.update('meta', row, before);
    else tx.insert('meta', row);
  },
};

const isUnavailable = (error: unknown): boolean =>
  error instanceof PkiError && error.code === 'record-unavailable';

/**
 * Serializes writers and lets those that wait share a commit (`CommitQueue`). Readers wait until what was committed before is on disk:
 * nothing that could still be lost is ever reported.
 */
export class TransactionQueue implements RecordDatabase {
  readonly writer: string;
  readonly #backend: Backend;
  readonly #clock: Clock;
  readonly #queue: CommitQueue<Waiting>;
  #reading: Promise<unknown> = Promise.resolve();
  #closed = false;
  /** Settles when all that is committed is on disk. */
  #synced: Promise<void> = Promise.resolve();
  /** As of the last commit of this process, or as they were last read; undefined before the first. */
  #heads: Heads | undefined;
  /** Whether they must be read: it is not known what the last commit came to. */
  #isUnsure = false;
  /** Whether the last commit failed. */
  #failed = false;
  #busyMs = 0;
  #seal: JournalSeal | null = null;
  #auditKey: AuditKey | null = null;
  #policy: PolicyTable = noPolicy;
  #outcomeSeal: OutcomeSeal = noSeal;
  /** Why this process writes no more; undefined where it does. */
  #stopped: string | undefined;

  constructor(options: { backend: Backend; writer: string; clock: Clock }) {
    this.#backend = options.backend;
    this.writer = options.writer;
    this.#clock = options.clock;
    this.#queue = new CommitQueue({ clock: options.clock, commit: (group) => this.#commit(group) });
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

  read<R>(body: (reader: RecordReader) => R | Promise<R>): Promise<R> {
    return this.readOnce(areRulesChecked() ? repeatable(body) : body);
  }

  /** The same for a body that runs once, and may keep what it has read. */
  readOnce<R>(body: (reader: RecordReader) => R | Promise<R>): Promise<R> {
    const reading = this.#reading.then(() => {
      this.#refuseUnusable();
      return this.#readNow(body);
    });
    this.#reading = reading.catch(() => undefined);
    return reading.then(async ({ synced, value }) => {
      // What it saw may have been committed and not yet on disk. The next one reads meanwhile.
      await synced;
      return value;
    });
  }

  async #readNow<R>(
    body: (reader: RecordReader) => R | Promise<R>,
  ): Promise<{ synced: Promise<void>; value: R }> {
    try {
      const value = await this.#backend.read(body);
      return { synced: this.#synced, value };
    } catch (error) {
      throw this.#backend.translate(error);
    }
  }

  #refuseUnusable(): void {
    if (this.#closed) throw new PkiError('record-unavailable', 'the record is closed');
    if (this.#stopped !== undefined) throw new PkiError('record-unavailable', this.#stopped);
  }

  run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    const seed = newSeed();
    return traced(`commit ${rule.action}`, { 'db.system.name': 'sqlite' }, () =>
      this.#submit(auditHeaderOf(rule, input, this.writer), (heads) => {
        const at = { writer: this.writer, heads, seed, context: this.#context(nowMs) };
        return decideAlone(this.#backend.rows, rule, input, at);
      }),
    );
  }

  preview<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    return this.read((reader) => {
      // No event follows from it, so that where the writer's chains stand does not matter.
      const at = { writer: this.writer, heads: noHeads, seed: newSeed(), isPreview: true };
      return decideAlone(reader, rule, input, { ...at, context: this.#context(nowMs) }).outcome;
    });
  }

  #context(nowMs: number): RuleContext {
    const decidedMs = Math.max(nowMs, this.#clock.wallMs());
    return { nowMs, decidedMs, server: null, policy: this.#policy, seal: this.#outcomeSeal };
  }

  #submit<R>(
    header: AuditHeader,
    decide: (heads: Heads) => { readonly workspace: Workspace; readonly outcome: R },
  ): Promise<R> {
    try {
      this.#refuseUnusable();
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise<R>((resolve, reject) => {
      let result: R;
      this.#queue.push({
        decide: (heads) => {
          const { workspace, outcome } = decide(heads);
          result = outcome;
          return workspace;
        },
        header,
        commit: () => resolve(result),
        fail: reject,
      });
    });
  }

  async probe(): Promise<void> {
    const atMs = this.#clock.wallMs();
    await this.run(probe, { isWriting: this.#failed, atMs }, atMs);
  }

  get busyMs(): number {
    return this.#busyMs;
  }

  get knownHead(): Heads | undefined {
    return this.#heads;
  }

  integrity(): Promise<string | undefined> {
    return this.readOnce(() => this.#backend.integrity());
  }

  /** Everything that waits settles first, also where the disk is gone: as `record-unavailable`. */
  async close(): Promise<void> {
    await this.#queue.settled();
    this.#closed = true;
    await this.#reading;
    try {
      await this.#backend.close();
    } catch (error) {
      throw this.#backend.translate(error);
    }
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    if (this.#stopped !== undefined) {
      const stopped = new PkiError('record-unavailable', this.#stopped);
      for (const member of group) member.fail(stopped);
      return;
    }
    const before = process.threadCpuUsage();
    const written = this.#commitGroup(group);
    const { user, system } = process.threadCpuUsage(before);
    this.#busyMs += (user + system) / 1000;
    await this.#acknowledge(written);
  }

  /** The members that wrote; those that did not were rejected with the reason. */
  #commitGroup(group: readonly Waiting[]): Waiting[] {
    const backend = this.#backend;
    const refused = new Set<Waiting>();
    let unwritable: unknown;
    try {
      backend.begin();
      let heads = this.#headsNow();
      const draft = new CommitDraft(backend.rows, this.#seal);
      for (const member of group) {
        const workspace = this.#decide(member, heads, refused);
        if (!workspace) continue;
        try {
          heads = draft.apply(workspace, member.header);
        } catch (error) {
          unwritable = backend.translate(error);
          throw error;
        }
      }
      const at = { writer: this.writer, heads, nowMs: this.#clock.wallMs(), key: this.#auditKey };
      try {
        heads = draft.close(at);
      } catch (error) {
        unwritable = backend.translate(error);
        throw error;
      }
      backend.commit();
      this.#heads = heads;
      this.#isUnsure = false;
    } catch (error) {
      this.#isUnsure = true;
      this.#rollbackQuietly();
      const rest = group.filter((member) => !refused.has(member));
      const isMembersOwn = unwritable !== undefined && !isUnavailable(unwritable);
      // One of them cannot be written: each by itself, so that the others are.
      if (isMembersOwn && group.length > 1) return rest.flatMap((member) => this.#commitGroup([member]));
      const translated = backend.translate(error);
      this.#failed ||= !isMembersOwn;
      for (const member of rest) member.fail(translated);
      return [];
    }
    return group.filter((member) => !refused.has(member));
  }

  /** Within a transaction: where the writer's chains stand. Throws where the record does not go on from what was written here. */
  #headsNow(): Heads {
    const { rows } = this.#backend;
    const known = this.#heads;
    const isChanged = this.#backend.changedByOthers() || this.#isUnsure;
    if (!isChanged && known) return known;
    const fault = known && chainFault(rows, this.writer, known, this.#auditKey);
    if (fault !== undefined) {
      this.#stopped = `the record was altered: ${fault}; stop the service, verify the audit chain, and restore a backup`;
      throw new PkiError('record-unavailable', this.#stopped);
    }
    return readHeads(rows, this.writer);
  }

  /** What a member is to write; undefined where it was rejected. A failure of the database is the whole group's. */
  #decide(member: Waiting, heads: Heads, refused: Set<Waiting>): Workspace | undefined {
    try {
      return member.decide(heads);
    } catch (error) {
      const translated = this.#backend.translate(error);
      if (isUnavailable(translated)) throw translated;
      refused.add(member);
      member.fail(translated);
      return undefined;
    }
  }

  /** Resolves members whose changes are on disk, once they are. */
  async #acknowledge(written: readonly Waiting[]): Promise<void> {
    if (written.length === 0) return;
    const syncing = this.#backend.sync().catch((error: unknown) => {
      // The kernel may have dropped what it could not write, and would say so only once. What is written now would lie behind it.
      this.#stopped = 'the disk lost what was written; the service must start again';
      throw this.#backend.translate(error);
    });
    this.#synced = syncing;
    try {
      await syncing;
    } catch (error) {
      for (const member of written) member.fail(error);
      return;
    }
    this.#failed = false;
    for (const member of written) member.commit();
  }

  /** Callers get the error that began the failure; that the rollback failed too adds nothing. */
  #rollbackQuietly(): void {
    try {
      this.#backend.rollback();
    } catch (error) {
      // The database ends a transaction by itself on some errors; then there is nothing to roll back.
      if (!(this.#backend.translate(error) instanceof Error)) this.#stopped = 'the database cannot be used';
    }
  }
}
