import type { Logger } from 'pino';
import type { Publications } from '../../core/model/publication.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { coalesced } from '../../core/runtime/coalesced.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import { covers, type Nodes, nodesMax, type Positions, type Work } from '../api/nodes.ts';
import type { Question } from './asking.ts';
import { lockNumber } from './locks.ts';
import { NodeMessages } from './node-messages.ts';
import { PostgresPublications } from './publications.ts';
import type { Answer, Session } from './session.ts';

// How the CA nodes of one record know of each other. All that is lasting about it is two small tables, which are no part of the record:
// leases of nodes, and claims on work. Invariants:
//
// - A node takes a lease before its first follower reads the feed, and renews it. It dates nothing that it reads later than its lease lets its
//   followers answer for: `answersForMs` after the last such moment they stop by themselves, and then the lease has not ended yet.
// - So what every node with a lease has applied, or what was committed `answersForMs` ago, is known to all that answer.
// - A lease ends for its node by the monotonic clock from before it was asked for, and for others by theirs from when they first saw it: no
//   clock of a server, which may be set or be another's after a failover, ends one too early.
//
// Not handled here: nodes whose monotonic clocks run at different speeds, or stand still while their machine is paused.

/** A lease is renewed so often in the time for which it is given. */
const renewals = 6;
/** How much later than another's lease has ended it is believed to have ended. */
const marginMs = 250;
/** A claim is given up so much of its time before it ends. */
const claimMargin = 0.05;

const allWorks: readonly Work[] = ['duties', 'crl'];

/** After a failover the server is on another timeline. */
const timeline = 'left(pg_walfile_name(pg_current_wal_lsn()), 8)';
const until = `clock_timestamp() + $2::float8 * interval '1 ms'`;

const renew = `UPDATE "nodeLease" SET "leaseUntil" = ${until}, "answersForMs" = $3, renewal = renewal + 1, timeline = ${timeline},
    "hasLeft" = false WHERE node = $1 RETURNING ordinal`;

const leave = `UPDATE "nodeLease" SET "leaseUntil" = clock_timestamp(), "hasLeft" = true WHERE node = $1`;

/** Numbers are free again an hour after their node's lease has ended. */
const forget = `DELETE FROM "nodeLease" WHERE "leaseUntil" < clock_timestamp() - interval '1 hour' AND node <> $1`;
const register = `INSERT INTO "nodeLease" SELECT $1, min(number), ${until}, $3, 1, ${timeline}, false
    FROM generate_series(0, ${nodesMax - 1}) AS numbers (number)
    WHERE NOT EXISTS (SELECT 1 FROM "nodeLease" WHERE ordinal = number) HAVING min(number) IS NOT NULL RETURNING ordinal`;

/** One that would last longer than any was given by a clock that was ahead. */
const claim = `INSERT INTO "workClaim" AS present SELECT work, $1, ${until} FROM unnest($3::text[]) AS u (work)
  ON CONFLICT (work) DO UPDATE SET node = EXCLUDED.node, until = EXCLUDED.until
    WHERE present.node = EXCLUDED.node OR present.until < clock_timestamp() OR present.until > EXCLUDED.until RETURNING work`;

/** Leases of other nodes, whatever the clock says of them, and whether they were taken on this timeline. */
const others = `SELECT node, renewal, "answersForMs", timeline, timeline = ${timeline} FROM "nodeLease" WHERE node <> $1 AND NOT "hasLeft"`;

/** Other nodes that take part now, as far as the server's clock says, and those that do not any more. */
export const present = `SELECT node FROM "nodeLease" WHERE node <> $1 AND NOT "hasLeft" AND "leaseUntil" > clock_timestamp() ORDER BY node`;
export const ended = `SELECT node FROM "nodeLease" WHERE node <> $1 AND ("hasLeft" OR "leaseUntil" <= clock_timestamp())`;

/**
 * The server's time from before it looked, or when the oldest transaction under way of any node began: what it writes is dated later. And whether
 * there are connections of nodes of which this role is told nothing.
 */
const complete = `SELECT floor(extract(epoch FROM least(statement_timestamp(), min(xact_start))) * 1000)::float8,
    coalesce(extract(epoch FROM statement_timestamp() - min(xact_start)) * 1000, 0)::float8,
    count(*) FILTER (WHERE state IS NULL OR state = 'disabled') > 0
  FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'warifu lane %'`;

export interface NodesOptions {
  readonly node: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a follower answers by what it has received, milliseconds. */
  readonly answersForMs: number;
  /** Whether the record is dated by the server's clock. */
  readonly timedByServer: boolean;
  readonly open: () => Promise<Session>;
  readonly ask: (question: Question) => Promise<Answer>;
}

/** Another node, and how long what it knows may still be answered by, milliseconds. */
interface Other {
  readonly node: string;
  readonly waitMs: number;
}

/** A lease of another node, and since when it is known not to have been renewed: monotonic milliseconds. */
interface Seen {
  readonly lease: string;
  readonly sinceMs: number;
}

interface Waiting {
  readonly node: string;
  readonly positions: Positions;
  readonly resolve: () => void;
}

export class PostgresNodes implements Nodes {
  readonly #options: NodesOptions;
  readonly #leaseMs: number;
  readonly #messages: NodeMessages;
  readonly publications: Publications;
  readonly #applied = new Map<string, Positions>();
  readonly #waiting = new Set<Waiting>();
  /** Other nodes with a lease, as they are after the call. */
  readonly #others: () => Promise<readonly Other[]>;
  readonly #seen = new Map<string, Seen>();
  /** Leases of which it was said that they have ended. */
  readonly #gone = new Map<string, string>();
  #own: Positions = {};
  #ordinal = 0;
  /** Monotonic milliseconds, from before it was asked for. */
  #leaseUntilMs = 0;
  #claims: { readonly works: readonly string[]; readonly untilMs: number } = { works: [], untilMs: 0 };
  /** Until when this node leaves work to others, monotonic milliseconds. */
  readonly #left = new Map<Work, number>();
  #news: (known: Positions) => void = () => undefined;
  #stop: () => Promise<void> = async () => undefined;

  private constructor(options: NodesOptions) {
    this.#options = options;
    this.#leaseMs = 2 * options.answersForMs;
    this.#others = coalesced(() => this.#askOthers());
    this.#messages = new NodeMessages({
      ...options,
      heard: (...said) => this.#heard(...said),
    });
    this.publications = new PostgresPublications({
      ...{ node: options.node, ask: options.ask, isPublisher: () => this.does('crl') },
      giveUp: () => this.#giveUp('crl'),
      write: ({ text, values }) => this.#messages.within((session) => session.query(text, values)),
    });
  }

  /** Takes a lease. Throws `bad-request` where as many nodes as there may be have one. */
  static async open(options: NodesOptions): Promise<PostgresNodes> {
    const nodes = new PostgresNodes(options);
    try {
      await nodes.#renew();
    } catch (error) {
      await nodes.#messages.close();
      throw error;
    }
    nodes.#stop = repeat(
      nodes.#leaseMs / renewals,
      () => nodes.#renew(),
      options.logger,
      'this node’s lease cannot be renewed: OCSP says tryLater after ocsp.feedLagMax',
    );
    return nodes;
  }

  /** Throws `record-unavailable` once the lease has ended: another node may have the number by then. */
  get ordinal(): number {
    if (this.#options.clock.monotonicMs() >= this.#leaseUntilMs)
      throw new PkiError('record-unavailable', 'this node’s lease has ended, and cannot be renewed');
    return this.#ordinal;
  }

  does(work: Work): boolean {
    const { works: claimed, untilMs } = this.#claims;
    return claimed.includes(work) && this.#options.clock.monotonicMs() < untilMs;
  }

  async completeUntil(nowMs: number): Promise<number> {
    const { clock, answersForMs, timedByServer, ask } = this.#options;
    const { rows } = await ask({ text: complete, values: [] });
    const [serverMs, underWayMs, isHidden] = rows[0] as [number, number, boolean];
    if (isHidden)
      throw new PkiError(
        'record-unavailable',
        'this role may not see the transactions of other nodes: let all nodes use one role of the database, with track_activities on',
      );
    const completeMs = timedByServer ? Math.min(nowMs, serverMs) : nowMs - Math.ceil(underWayMs);
    const overdueMs = clock.monotonicMs() - (this.#leaseUntilMs - answersForMs);
    return completeMs - Math.max(0, Math.ceil(overdueMs));
  }

  announce(known: Positions, applied: Positions): void {
    this.#own = applied;
    this.#messages.announce(known, applied);
  }

  onNews(act: (known: Positions) => void): void {
    this.#news = act;
  }

  async reached(positions: Positions): Promise<void> {
    const nodes = await this.#others();
    await Promise.all(nodes.map(({ node, waitMs }) => this.#reachedBy(node, positions, waitMs + marginMs)));
  }

  async others(): ReturnType<Nodes['others']> {
    return (await this.#others()).map(({ node }) => {
      const applied = this.#applied.get(node);
      const behind = Object.entries(this.#own).reduce(
        (sum, [writer, position]) => sum + Math.max(0, position - (applied?.[writer] ?? 0)),
        0,
      );
      return { node, behind: applied ? behind : null };
    });
  }

  /** Its claims end with it, and its lease, where none of its followers may answer. */
  async close(mayAnswer: boolean): Promise<void> {
    await this.#stop();
    const { node, logger } = this.#options;
    try {
      await this.#messages.within((session) =>
        Promise.all([
          session.query('UPDATE "workClaim" SET until = clock_timestamp() WHERE node = $1', [node]),
          mayAnswer ? undefined : session.query(leave, [node]),
        ]),
      );
    } catch (error) {
      logger.warn(
        { reason: (error as Error).message },
        'this node’s lease could not be given back; it ends by itself',
      );
    }
    await this.#messages.close();
  }

  async #renew(): Promise<void> {
    const { node, clock, answersForMs } = this.#options;
    const askedMs = clock.monotonicMs();
    const wanted = allWorks.filter((work) => (this.#left.get(work) ?? 0) <= askedMs);
    await this.#messages.within(async (session) => {
      const [{ rows }, claimed] = await Promise.all([
        session.query(renew, [node, this.#leaseMs, answersForMs]),
        session.query(claim, [node, this.#leaseMs, `{${wanted.join()}}`]),
      ]);
      this.#ordinal = Number(rows[0]?.[0] ?? (await this.#register(session)));
      this.#leaseUntilMs = askedMs + this.#leaseMs;
      const works = claimed.rows.map(([work]) => String(work));
      this.#sayClaims(works);
      this.#claims = {
        works,
        untilMs: askedMs + this.#leaseMs * (1 - claimMargin),
      };
    });
    // Seen often, so that one that has ended is known to have ended soon.
    await this.#others();
  }

  /** One node at a time. */
  async #register(session: Session): Promise<number> {
    const { node, answersForMs } = this.#options;
    const statements = [
      session.query('BEGIN'),
      session.query('SELECT pg_advisory_xact_lock($1::bigint)', [lockNumber('nodes').toString()]),
      session.query(forget, [node]),
    ];
    const registered = session.query(register, [node, this.#leaseMs, answersForMs]);
    await Promise.all([...statements, registered, session.query('COMMIT')]);
    const ordinal = (await registered).rows[0]?.[0];
    if (ordinal === undefined)
      throw new PkiError(
        'bad-request',
        `${nodesMax} CA nodes have this record: one of them is to be stopped, and an hour later another may start`,
      );
    return Number(ordinal);
  }

  /** Other nodes whose lease may not have ended. After a failover one may answer by what the server before said, until its lease ends. */
  async #askOthers(): Promise<readonly Other[]> {
    const { node, ask, clock } = this.#options;
    const { rows } = await ask({ text: others, values: [node] });
    const nowMs = clock.monotonicMs();
    return rows.flatMap(([name, renewal, answersForMs, line, isOfNow]) => {
      const other = String(name);
      const lease = `${renewal} ${line}`;
      const before = this.#seen.get(other);
      const seen = before?.lease === lease ? before : { lease, sinceMs: nowMs };
      this.#seen.set(other, seen);
      const leftMs = seen.sinceMs + 2 * Number(answersForMs) - nowMs;
      if (leftMs <= 0) {
        this.#sayGone(other, lease);
        return [];
      }
      return [{ node: other, waitMs: isOfNow === true ? Math.min(leftMs, Number(answersForMs)) : leftMs }];
    });
  }

  /** Another may have the claim by the time that this node asks for it again. */
  #giveUp(work: Work): void {
    const { clock, node, logger } = this.#options;
    if ((this.#left.get(work) ?? 0) > clock.monotonicMs()) return;
    this.#left.set(work, clock.monotonicMs() + 2 * this.#leaseMs);
    this.#claims = { ...this.#claims, works: this.#claims.works.filter((each) => each !== work) };
    const end = `UPDATE "workClaim" SET until = clock_timestamp() WHERE work = $1 AND node = $2`;
    // Where that fails the claim ends by itself, because it is not renewed.
    this.#messages
      .within((session) => session.query(end, [work, node]))
      .catch((error: Error) => logger.warn({ work, reason: error.message }, 'a claim ends by itself'));
  }

  /** Says once of a lease that ended without being given back. */
  #sayGone(node: string, lease: string): void {
    if (this.#gone.get(node) === lease) return;
    this.#gone.set(node, lease);
    this.#options.logger.warn(
      { node },
      'a node has ended, or does not reach the database: others go on without it',
    );
  }

  #sayClaims(works: readonly string[]): void {
    for (const work of works)
      if (!this.#claims.works.includes(work))
        this.#options.logger.info({ work }, 'this node does the work for all nodes from now on');
  }

  async #reachedBy(node: string, positions: Positions, waitMs: number): Promise<void> {
    if (covers(this.#applied.get(node), positions)) return;
    const reached = Promise.withResolvers<void>();
    const waiting = { node, positions, resolve: reached.resolve };
    this.#waiting.add(waiting);
    const timer = setTimeout(reached.resolve, waitMs);
    await reached.promise;
    clearTimeout(timer);
    this.#waiting.delete(waiting);
  }

  #heard(node: string, positions: Positions, known: Positions): void {
    const applied = { ...this.#applied.get(node), ...positions };
    this.#applied.set(node, applied);
    for (const waiting of this.#waiting)
      if (waiting.node === node && covers(applied, waiting.positions)) waiting.resolve();
    this.#news(known);
  }
}
