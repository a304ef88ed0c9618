import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { traced } from '../../core/runtime/tracing.ts';
import type { Nodes } from '../api/nodes.ts';
import { noPolicy, type PolicyTable } from '../api/policy.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import { CommitQueue } from '../engine/commit-queue.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { noHeads } from '../engine/heads.ts';
import { newSeed } from '../engine/ids.ts';
import { LoadedRows } from '../engine/loaded.ts';
import type { Heads, RecordReader } from '../engine/record.ts';
import type { OutcomeSeal, Rule, RuleContext } from '../engine/rule.ts';
import { auditHeaderOf, noSeal } from '../engine/run-rule.ts';
import { Workspace } from '../engine/workspace.ts';
import { ddl, definitionFault, definitionQuestions } from './ddl.ts';
import { Lane, type Member } from './lane.ts';
import { loadAll } from './loads.ts';
import { lockNumber } from './locks.ts';
import { ended, PostgresNodes, present } from './nodes.ts';
import { ReadingSessions, readWith } from './reads.ts';
import type { PostgresServer } from './server.ts';
import { readerSettings, Session, translate, writeNothing } from './session.ts';

export interface PostgresOptions {
  readonly server: PostgresServer;
  readonly writer: string;
  readonly clock: Clock;
  /** Connections that read, at most. */
  readonly readers?: number;
  /** Whether decisions are dated by the server's clock, where that is ahead of this process's: wanted where several nodes write. */
  readonly timedByServer?: boolean;
  /** Whether nothing is written from when `standbyFault` says something until it says nothing. */
  readonly strict?: boolean;
  /** Called with how far the server's clock is ahead of this process's, milliseconds. */
  readonly onSkew?: (ms: number) => void;
  /** How long a process that has ended may keep the writer's name; longer than a server takes to notice. */
  readonly fencedMs?: number;
}

const readersByDefault = 4;
const fencedMsByDefault = 12_000;

/** Whether the server may give up what waits for locks, or for us, and after which time. */
const laneSettings = {
  lock_timeout: '2000',
  idle_in_transaction_session_timeout: '5000',
  tcp_user_timeout: '5000',
  // A machine that is gone keeps its lane's name for no longer than this.
  ...{ tcp_keepalives_idle: '5', tcp_keepalives_interval: '1', tcp_keepalives_count: '3' },
  // All statements look rows up by keys and indexes: no estimate of how many there are may say otherwise.
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
};

/** Opens the record in a PostgreSQL database (15 or later), whose tables are made where there are none. */
export async function openPostgres(options: PostgresOptions): Promise<PostgresRecord> {
  const session = await Session.open(options.server, { name: `warifu ${options.writer}` });
  try {
    await makeTables(session);
  } catch (error) {
    throw translate(error);
  } finally {
    await session.close();
  }
  return new PostgresRecord(options);
}

/** A connection that writes: what it acknowledges is on disk, and texts are kept as they are. */
async function openLane(server: PostgresServer, name: string): Promise<Session> {
  const session = await Session.open(server, { name, settings: laneSettings });
  try {
    const { rows } = await session.query(
      `SELECT current_setting('server_encoding'), current_setting('synchronous_commit')`,
    );
    const [encoding, commit] = rows[0] as [string, string];
    if (encoding !== 'UTF8')
      throw new PkiError(
        'record-unavailable',
        `the database has the encoding ${encoding}: make another with ENCODING 'UTF8'`,
      );
    if (commit === 'off') await session.query('SET synchronous_commit TO on');
    return session;
  } catch (error) {
    session.destroy();
    throw error;
  }
}

const askDefinitions = async (session: Session): Promise<Parameters<typeof definitionFault>[0]> =>
  (await Promise.all(definitionQuestions.map((question) => session.query(question)))).map(({ rows }) => rows);

/** Who has written the record that a database holds; undefined where it holds none. */
export async function writersIn(server: PostgresServer): Promise<readonly string[] | undefined> {
  const session = await Session.open(server, { name: 'warifu' });
  try {
    const { rows } = await session.query(`SELECT to_regclass('meta') IS NOT NULL`);
    if (rows[0]?.[0] !== true) return undefined;
    const found = await session.query('SELECT name, value FROM meta');
    const values = found.rows as [string, string][];
    if (!values.some(([name]) => name === 'incarnation')) return undefined;
    return values.flatMap(([name, value]) => (name.startsWith('writer:') ? [value] : []));
  } catch (error) {
    throw translate(error);
  } finally {
    await session.close();
  }
}

/** Whether a database holds a record. */
export const hasRecord = async (server: PostgresServer): Promise<boolean> =>
  (await writersIn(server)) !== undefined;

/** One node at a time, in one transaction. */
export async function makeTables(session: Session): Promise<void> {
  if (definitionFault(await askDefinitions(session)) === undefined) return;
  await session.query('BEGIN');
  await session.query('SELECT pg_advisory_xact_lock($1::bigint)', [lockNumber('schema').toString()]);
  for (const statement of ddl()) await session.query(statement);
  await session.query('COMMIT');
}

class PostgresRecord implements RecordDatabase {
  readonly writer: string;
  readonly #clock: Clock;
  readonly #server: PostgresServer;
  readonly #timedByServer: boolean;
  readonly #lane: Lane;
  readonly #queue: CommitQueue<Member>;
  readonly #readers: ReadingSessions;
  #policy: PolicyTable = noPolicy;
  #outcomeSeal: OutcomeSeal = noSeal;
  readonly #strict: boolean;
  /** What is acknowledged now could be lost. */
  #fault: string | undefined;
  #isClosed = false;

  constructor(options: PostgresOptions) {
    const { server, writer, clock, readers = readersByDefault } = options;
    this.writer = writer;
    this.#clock = clock;
    this.#server = server;
    this.#timedByServer = options.timedByServer ?? false;
    this.#strict = options.strict ?? false;
    const name = `warifu ${writer}`;
    this.#lane = new Lane({
      writer,
      clock,
      fencedMs: options.fencedMs ?? fencedMsByDefault,
      open: () => openLane(server, `warifu lane ${writer}`),
      timedByServer: this.#timedByServer,
      ...(options.onSkew ? { onSkew: options.onSkew } : {}),
    });
    this.#queue = new CommitQueue({ clock, commit: (group) => this.#lane.commit(group) });
    this.#readers = new ReadingSessions({
      open: () => Session.open(server, { name: `${name} reading`, settings: readerSettings }),
      max: readers,
    });
  }

  sealWith(seal: JournalSeal): void {
    this.#lane.seal = seal;
  }

  authenticateWith(key: AuditKey): void {
    this.#lane.auditKey = key;
  }

  sealOutcomesWith(seal: OutcomeSeal): void {
    this.#outcomeSeal = seal;
  }

  decideBy(policy: PolicyTable): void {
    this.#policy = policy;
  }

  async read<R>(body: (reader: RecordReader) => R | Promise<R>): Promise<R> {
    return this.#guarded(() => readWith(this.#readers, body));
  }

  run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    return traced(`commit ${rule.action}`, { 'db.system.name': 'postgresql' }, () =>
      this.#commit(rule, input, nowMs),
    );
  }

  #commit<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    return new Promise<Outcome>((resolve, reject) => {
      this.#refuseUnusable();
      if (this.#strict && this.#fault !== undefined)
        throw new PkiError(
          'record-unavailable',
          `nothing is written (record.postgres.strict): ${this.#fault}; attach a synchronous standby`,
        );
      this.#queue.push({
        rule: rule as Rule<unknown, unknown>,
        input,
        header: auditHeaderOf(rule, input, this.writer),
        seed: newSeed(),
        context: (at) => this.#context(nowMs, at),
        resolve: resolve as (outcome: unknown) => void,
        fail: reject,
      });
    });
  }

  preview<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome> {
    return this.#reading(async (session) => {
      await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      try {
        const [located, loaded] = [new LoadedRows(), new LoadedRows()];
        await loadAll(session, [{ loads: rule.locate?.(input) ?? [], into: located }]);
        await loadAll(session, [{ loads: rule.loads(input, located, this.writer), into: loaded }]);
        // No event follows from it, so that where the writer's chains stand does not matter.
        const workspace = new Workspace(loaded, { writer: this.writer, heads: noHeads, seed: newSeed() });
        return rule.decide(input, workspace, this.#context(nowMs, { notBeforeMs: 0, server: null }));
      } finally {
        session.query('ROLLBACK').catch(() => undefined);
      }
    });
  }

  async probe(): Promise<void> {
    await this.run(probe, null, this.#clock.wallMs());
    // What waits for a standby that is gone would wait for ever.
    await this.#reading((session) => session.query(writeNothing));
  }

  integrity(): Promise<string | undefined> {
    return this.#reading(async (session) => definitionFault(await askDefinitions(session)));
  }

  /** With several hosts one of them takes over: it has to have all that was acknowledged. */
  async standbyFault(): Promise<string | undefined> {
    this.#fault = await this.#reading(async (session) => {
      if (this.#server.hosts.length < 2) return undefined;
      const { rows } = await session.query(
        `SELECT current_setting('synchronous_commit'), (SELECT coalesce(json_agg(sync_state), '[]')::text FROM pg_stat_replication)`,
      );
      const [commit, states] = rows[0] as [string, string];
      const found = JSON.parse(states) as (string | null)[];
      if (commit === 'off' || commit === 'local') return `synchronous_commit of the server is ${commit}`;
      if (found.some((state) => state === 'sync' || state === 'quorum')) return undefined;
      return found.includes(null)
        ? 'this user may not see standbys: GRANT pg_read_all_stats to it'
        : 'the server has no synchronous standby';
    });
    return this.#fault;
  }

  openNodes({
    answersForMs,
    logger,
  }: Parameters<NonNullable<RecordDatabase['openNodes']>>[0]): Promise<Nodes> {
    return PostgresNodes.open({
      ...{ node: this.writer, clock: this.#clock, logger, answersForMs, timedByServer: this.#timedByServer },
      // What is acknowledged there is on disk, and what is half open is noticed while a lease lasts.
      open: () =>
        Session.open(this.#server, {
          name: `warifu ${this.writer} nodes`,
          settings: { ...readerSettings, synchronous_commit: 'on' },
          answeredMs: Math.min(15_000, Math.max(1000, answersForMs / 2)),
        }),
      ask: (question) => this.#guarded(() => this.#readers.alone(question)),
    });
  }

  otherNodes(): Promise<readonly string[]> {
    return this.#nodesBy(present);
  }

  goneNodes(): Promise<readonly string[]> {
    return this.#nodesBy(ended);
  }

  async #nodesBy(text: string): Promise<readonly string[]> {
    const { rows } = await this.#guarded(() => this.#readers.alone({ text, values: [this.writer] }));
    return rows.map(([node]) => String(node));
  }

  get knownHead(): Heads | undefined {
    return this.#lane.heads;
  }

  get busyMs(): number {
    return this.#lane.busyMs;
  }

  get flushes(): number {
    return this.#lane.flushes;
  }

  async close(): Promise<void> {
    await this.#queue.settled();
    this.#isClosed = true;
    await this.#readers.close();
    await this.#lane.close();
  }

  #reading<R>(act: (session: Session) => Promise<R>): Promise<R> {
    return this.#guarded(() => this.#readers.within(act));
  }

  async #guarded<R>(act: () => Promise<R>): Promise<R> {
    this.#refuseUnusable();
    try {
      return await act();
    } catch (error) {
      throw translate(error);
    }
  }

  #refuseUnusable(): void {
    if (this.#isClosed) throw new PkiError('record-unavailable', 'the record is closed');
    const { stopped } = this.#lane;
    if (stopped !== undefined) throw new PkiError('record-unavailable', stopped);
  }

  #context(nowMs: number, { notBeforeMs, server }: Parameters<Member['context']>[0]): RuleContext {
    const decidedMs = Math.max(nowMs, this.#clock.wallMs(), notBeforeMs);
    return { nowMs, decidedMs, server, policy: this.#policy, seal: this.#outcomeSeal };
  }
}

/** Nothing, in a transaction. */
const probe: Rule<null, void> = {
  action: 'probe',
  subject: () => ({}),
  locks: () => [],
  loads: () => [],
  decide: () => undefined,
};

export type { PostgresRecord };
