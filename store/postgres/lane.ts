import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import { CommitDraft } from '../engine/commit-draft.ts';
import { checkRead, checkWrite } from '../engine/guards.ts';
import { chainFault, readHeads } from '../engine/heads.ts';
import { LoadedRows, NotLoaded } from '../engine/loaded.ts';
import type { AuditHeader, Heads } from '../engine/record.ts';
import { type Lock, type Rule, type RuleContext, shared, wholeRecord } from '../engine/rule.ts';
import { areRulesChecked } from '../engine/run-rule.ts';
import { Workspace } from '../engine/workspace.ts';
import { loadAll } from './loads.ts';
import { lockNumber, takeLocks } from './locks.ts';
import { askingOver, readWith } from './reads.ts';
import { isContention, isRefusal, type Session, translate, writeNothing } from './session.ts';
import { statementsFor } from './writes.ts';

// One connection that writes: a lane. Its transactions follow one another, each of a group of rules, and its stream of events and chain of
// audit entries are its own. Invariants:
//
// - Locks are taken before anything is loaded, and held until the transaction has ended, so that READ COMMITTED is enough (`guards.ts`).
// - Only the connection that holds the lane's own lock writes under its name; where its chains stand stays in memory meanwhile.
// - A COMMIT whose answer was lost is settled by the lane's own chain: what it holds was committed.
//
// Not handled here: a server that loses what it acknowledged. That is for its synchronous standby.

/** One rule that waits to be decided and written. */
export interface Member {
  readonly rule: Rule<unknown, unknown>;
  readonly input: unknown;
  readonly header: AuditHeader;
  readonly seed: Uint8Array;
  /** `notBeforeMs`: what is decided now is dated no earlier, wall-clock milliseconds. */
  readonly context: (at: Pick<RuleContext, 'server'> & { readonly notBeforeMs: number }) => RuleContext;
  readonly resolve: (outcome: unknown) => void;
  readonly fail: (error: unknown) => void;
}

/** A member whose locks are held. */
interface Ready {
  readonly member: Member;
  readonly locks: readonly Lock[];
  readonly located: LoadedRows;
  readonly loaded: LoadedRows;
}

/** A group whose locks are held. */
interface Group {
  readonly ready: readonly Ready[];
  /** Members that are not settled. */
  readonly open: Set<Member>;
  /** See `Member.context`. */
  readonly notBeforeMs: number;
}

/** A server that writes keeps its timeline: after a failover it is another session that learns the new one. */
const serverIdentity = `SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()`;
const serverTime = 'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::float8';

/** How often a group is run again that others came in the way of, or whose locks were not those that it turned out to need. */
const attemptsMax = 3;
/** How often the name of a lane is asked for that another process may still have. */
const askedMs = 100;

export class Lane {
  readonly #writer: string;
  readonly #clock: Clock;
  readonly #open: () => Promise<Session>;
  readonly #fencedMs: number;
  readonly #timedByServer: boolean;
  readonly #onSkew: (ms: number) => void;
  #session: Session | undefined;
  #heads: Heads | undefined;
  /** See `RuleContext`. */
  #server: string | null = null;
  #isUnsure = true;
  #stopped: string | undefined;
  #busyMs = 0;
  /** Of connections that were lost. */
  #flushes = 0;
  seal: JournalSeal | null = null;
  auditKey: AuditKey | null = null;

  constructor(options: {
    readonly writer: string;
    readonly clock: Clock;
    readonly open: () => Promise<Session>;
    /** How long another process may keep the name. */
    readonly fencedMs: number;
    /** See `PostgresOptions`. */
    readonly timedByServer: boolean;
    /** Called with how far the server's clock is ahead of this process's, milliseconds. */
    readonly onSkew?: (ms: number) => void;
  }) {
    this.#writer = options.writer;
    this.#clock = options.clock;
    this.#open = options.open;
    this.#fencedMs = options.fencedMs;
    this.#timedByServer = options.timedByServer;
    this.#onSkew = options.onSkew ?? (() => undefined);
  }

  get heads(): Heads | undefined {
    return this.#heads;
  }

  get busyMs(): number {
    return this.#busyMs;
  }

  /** How often something was sent to the server. */
  get flushes(): number {
    return this.#flushes + (this.#session?.flushes ?? 0);
  }

  /** Why this process writes no more; undefined where it does. */
  get stopped(): string | undefined {
    return this.#stopped;
  }

  /** Decides a group and writes what it decides, in one transaction. Settles every member, once. */
  async commit(group: readonly Member[]): Promise<void> {
    const open = new Set(group);
    await this.#settle(open);
    // Whom others came in the way of: each by itself.
    for (const member of open) await this.#settle(new Set([member]), true);
  }

  /** Settles all members of a group, or leaves some open, that are to be tried by themselves; none where each is alone. */
  async #settle(open: Set<Member>, isAlone = open.size === 1): Promise<void> {
    for (let attempt = 1; open.size > 0; attempt++) {
      const isLast = attempt === attemptsMax;
      try {
        await this.#attempt(open);
        if (!isAlone) return;
        if (isLast) failAll(open, new PkiError('overloaded', 'the record changes too fast: try again'));
      } catch (error) {
        const translated = translate(error);
        const isDown = translated instanceof PkiError && translated.code === 'record-unavailable';
        // Nothing was written. Once more, on another connection: that this one is lost is learned by using it.
        if (isDown && this.#session?.isLost && attempt === 1 && !isUnknown(translated)) continue;
        // What is wrong may be one member's.
        if (!isDown && !isAlone) return;
        if (isContention(error) && !isLast) continue;
        const overloaded = 'others hold what this needs: try again';
        failAll(
          open,
          isContention(error) ? new PkiError('overloaded', overloaded, { cause: error }) : translated,
        );
      }
    }
  }

  async close(): Promise<void> {
    await this.#session?.close();
  }

  /** Settles the members of a group, but for those whose locks were not those that they turned out to need, or that others came in the way of. */
  async #attempt(open: Set<Member>): Promise<void> {
    const group = [...open];
    const session = await this.#ready();
    const hinted = await locate(session, group);
    const locked = group.map((member, i) => locksOf(member, hinted[i] as LoadedRows, this.#writer));
    const begun = Promise.all([
      session.query(begin),
      takeLocks(
        session,
        locked.flatMap((locks) => locks ?? []),
      ),
    ]);
    const timed = this.#askTime(session);
    try {
      const [, notBeforeMs, located] = await Promise.all([begun, timed, locate(session, group)]);
      const ready: Ready[] = [];
      for (const [i, member] of group.entries()) {
        const locks = locked[i];
        const found = located[i] as LoadedRows;
        const held = new Set(locks?.map(({ name }) => name));
        const isFound = locksOf(member, found, this.#writer)?.every(({ name }) => held.has(name));
        if (locks && isFound) ready.push({ member, locks, located: found, loaded: new LoadedRows() });
      }
      await loadAll(
        session,
        ready.map((each) => this.#loading(each)),
      );
      await this.#write(session, { ready, open, notBeforeMs });
    } catch (error) {
      this.#isUnsure = true;
      // Where the connection is gone the server has done it.
      await session.query('ROLLBACK').catch(() => session.destroy());
      throw error;
    }
  }

  /** The server's clock. Sent behind the locks, so that nothing is dated before what others did while they were waited for. */
  async #askTime(session: Session): Promise<number> {
    const sentMs = this.#clock.wallMs();
    const { rows } = await session.query(serverTime);
    const serverMs = Number(rows[0]?.[0]);
    const ahead = Math.max(0, serverMs - this.#clock.wallMs());
    const behind = Math.max(0, sentMs - serverMs);
    this.#onSkew(ahead - behind);
    return this.#timedByServer ? serverMs : 0;
  }

  #loading({ member, locks, located, loaded }: Ready): Parameters<typeof loadAll>[1][number] {
    const loads = member.rule.loads(member.input, located, this.#writer);
    if (!areRulesChecked()) return { loads, into: loaded };
    return { loads, into: loaded, found: (load, rows) => checkRead(load, rows, locks) };
  }

  /** Has all decide, one after the other, on what was loaded and what those before wrote; then writes, commits, and settles them. */
  async #write(session: Session, group: Group): Promise<void> {
    const before = process.threadCpuUsage();
    const { open } = group;
    const { statements, heads, done } = this.#decide(group);
    const { user, system } = process.threadCpuUsage(before);
    this.#busyMs += (user + system) / 1000;
    const sent = statements.map(({ text, values }) => session.query(text, values));
    const committing = session.query('COMMIT');
    const results = await Promise.allSettled(sent);
    const failed = results.find((result) => result.status === 'rejected');
    const commit = await committing.catch((error: unknown) => ({ command: '', rows: [], error }));
    // The COMMIT of a transaction that failed is answered, too: with the tag of what was done.
    if (commit.command !== 'COMMIT') {
      const isAnswered = commit.command === 'ROLLBACK' || ('error' in commit && isRefusal(commit.error));
      if (!isAnswered) session.destroy();
      const isWritten = !isAnswered && (await this.#wasWritten(heads));
      if (!isWritten)
        throw failed?.reason ?? ('error' in commit ? commit.error : new Error('it was rolled back'));
    }
    this.#heads = heads;
    for (const [member, outcome] of done) {
      open.delete(member);
      member.resolve(outcome);
    }
  }

  /** Settles those that refuse; leaves those open that cannot be decided behind what others wrote. */
  #decide({ ready, open, notBeforeMs }: Group): {
    readonly statements: ReturnType<typeof statementsFor>;
    readonly heads: Heads;
    readonly done: ReadonlyMap<Member, unknown>;
  } {
    const writer = this.#writer;
    let heads = this.#heads as Heads;
    let loaded = new LoadedRows();
    const source = delegateTo(() => loaded);
    const group = new Workspace(source, { writer, heads, seed: new Uint8Array(16) });
    const draft = new CommitDraft(group, this.seal);
    const done = new Map<Member, unknown>();
    for (const each of ready) {
      const { member, locks } = each;
      loaded = each.loaded;
      const workspace = new Workspace(group, { writer, heads, seed: member.seed });
      let outcome: unknown;
      try {
        outcome = member.rule.decide(
          member.input,
          workspace,
          member.context({ notBeforeMs, server: this.#server }),
        );
        if (areRulesChecked()) for (const change of workspace.changes) checkWrite(change, locks);
      } catch (error) {
        if (error instanceof NotLoaded && done.size > 0) continue;
        open.delete(member);
        member.fail(error);
        continue;
      }
      heads = draft.apply(workspace, member.header);
      done.set(member, outcome);
    }
    heads = draft.close({
      writer,
      heads,
      nowMs: Math.max(notBeforeMs, this.#clock.wallMs()),
      key: this.auditKey,
    });
    return { statements: statementsFor(group.changes), heads, done };
  }

  /** The connection, with the lane's own lock, and where its chains stand known. */
  async #ready(): Promise<Session> {
    if (this.#stopped !== undefined) throw new PkiError('record-unavailable', this.#stopped);
    let session = this.#session;
    if (!session || session.isLost) {
      this.#flushes = this.flushes;
      this.#session = undefined;
      session = await this.#open();
      try {
        await this.#fence(session);
        this.#server = String((await session.query(serverIdentity)).rows[0]?.[0]);
      } catch (error) {
        session.destroy();
        throw error;
      }
      this.#session = session;
      this.#isUnsure = true;
    }
    if (!this.#isUnsure && this.#heads) return session;
    const [writer, known, key] = [this.#writer, this.#heads, this.auditKey];
    const { fault, heads } = await readWith(askingOver(session), (reader) => ({
      fault: known && chainFault(reader, writer, known, key),
      heads: readHeads(reader, writer),
    }));
    if (fault !== undefined) {
      this.#stopped = `the record was altered: ${fault}; stop the service, verify the audit chain, and restore a backup`;
      throw new PkiError('record-unavailable', this.#stopped);
    }
    this.#heads = heads;
    this.#isUnsure = false;
    return session;
  }

  /** Takes the lane's name for this connection. Throws `record-unavailable` where another keeps it. */
  async #fence(session: Session): Promise<void> {
    const number = lockNumber(`writer:${this.#writer}`).toString();
    const untilMs = this.#clock.monotonicMs() + this.#fencedMs;
    for (;;) {
      const { rows } = await session.query('SELECT pg_try_advisory_lock($1::bigint)', [number]);
      if (rows[0]?.[0] === true) return;
      if (this.#clock.monotonicMs() >= untilMs)
        throw new PkiError(
          'record-unavailable',
          `another process writes as ${this.#writer}: one alone may; stop it`,
        );
      await new Promise((resolve) => setTimeout(resolve, askedMs));
    }
  }

  /**
   * Whether a transaction was committed whose connection was lost: its audit entry is there, and on a synchronous standby where there is one. Throws
   * where that cannot be learned.
   */
  async #wasWritten(heads: Heads): Promise<boolean> {
    if (heads.sequence === this.#heads?.sequence) return false;
    const { sequence } = heads;
    try {
      const session = await this.#ready();
      const entry = await readWith(askingOver(session), (reader) =>
        reader.get('audit', { writer: this.#writer, sequence }),
      );
      const isThere = entry !== undefined && Buffer.compare(entry.hash, heads.hash) === 0;
      // A commit that was broken off as it waited for the standby is seen here all the same. One that comes later waits for both.
      if (isThere) await session.query(writeNothing);
      return isThere;
    } catch (error) {
      throw new PkiError('record-unavailable', unknownOutcome, { cause: error });
    }
  }
}

const unknownOutcome =
  'the connection to the database was lost while it committed: whether it did is not known; send the same request again';
const isUnknown = (error: Error): boolean => error.message === unknownOutcome;

/** Whatever the database or the role has as defaults: a snapshot that is older than the locks would be wrong. */
const begin = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE';

function failAll(open: Set<Member>, error: unknown): void {
  for (const member of open) member.fail(error);
  open.clear();
}

/** Passes reads on to what is current. */
function delegateTo(current: () => LoadedRows): ConstructorParameters<typeof Workspace>[0] {
  return {
    get: (...of) => current().get(...of),
    part: (table, key) => current().part(table, key),
    find: (...of) => current().find(...of),
    findDue: () => current().findDue(),
    scan: () => current().scan(),
  };
}

async function locate(session: Session, group: readonly Member[]): Promise<LoadedRows[]> {
  const located = group.map(() => new LoadedRows());
  await loadAll(
    session,
    group.map(({ rule, input }, i) => ({
      loads: rule.locate?.(input) ?? [],
      into: located[i] as LoadedRows,
    })),
  );
  return located;
}

/** With the lock of the whole record, shared. undefined where others committed between two statements that located what the rule is about. */
function locksOf({ rule, input }: Member, located: LoadedRows, writer: string): Lock[] | undefined {
  try {
    return [...rule.locks(input, located, writer), shared(wholeRecord.name)];
  } catch (error) {
    if (error instanceof NotLoaded) return undefined;
    throw error;
  }
}
