import type { Logger } from 'pino';
import type { Publications } from '../../core/model/publication.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { coalesced } from '../../core/runtime/coalesced.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import { type Nodes, nodesMax, type Positions, type Work } from '../api/nodes.ts';
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
// - Ends of leases and claims are compared by the clock of the server, and by each node's monotonic clock from before it asked.
//
// Not handled here: nodes whose monotonic clocks run at different speeds.

/** A lease is renewed so often in the time for which it is given. */
const renewals = 6;
/** How much later than another's lease has ended it is believed to have ended. */
const marginMs = 250;
/** A claim is given up so much of its time before it ends. */
const claimMargin = 0.05;

const works: readonly Work[] = ['duties', 'crl'];

const renew = `UPDATE "nodeLease" SET "leaseUntil" = clock_timestamp() + $2::float8 * interval '1 ms' WHERE node = $1 RETURNING ordinal`;

/** Numbers are free again an hour after their node's lease has ended. */
const forget = `DELETE FROM "nodeLease" WHERE "leaseUntil" < clock_timestamp() - interval '1 hour' AND node <> $1`;
const register = `INSERT INTO "nodeLease" SELECT $1, min(number), clock_timestamp() + $2::float8 * interval '1 ms'
    FROM generate_series(0, ${nodesMax - 1}) AS numbers (number)
    WHERE NOT EXISTS (SELECT 1 FROM "nodeLease" WHERE ordinal = number) HAVING min(number) IS NOT NULL RETURNING ordinal`;

const claim = `INSERT INTO "workClaim" AS present SELECT work, $1, clock_timestamp() + $2::float8 * interval '1 ms' FROM unnest($3::text[]) AS u (work)
  ON CONFLICT (work) DO UPDATE SET node = EXCLUDED.node, until = EXCLUDED.until
    WHERE present.node = EXCLUDED.node OR present.until < clock_timestamp() RETURNING work`;

/** Other nodes with a lease, and how long it still lasts. */
export const leases = `SELECT node, extract(epoch FROM "leaseUntil" - clock_timestamp())::float8 * 1000 FROM "nodeLease"
  WHERE node <> $1 AND "leaseUntil" > clock_timestamp() ORDER BY node`;

/** Other nodes whose lease has ended. */
export const ended = `SELECT node FROM "nodeLease" WHERE node <> $1 AND "leaseUntil" <= clock_timestamp()`;

/** The server's time, or when the oldest transaction under way of any node began: what it writes is dated later. */
const complete = `SELECT floor(extract(epoch FROM least(clock_timestamp(), min(xact_start))) * 1000)::float8,
    coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)) * 1000, 0)::float8
  FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'warifu lane %' AND xact_start IS NOT NULL`;

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

/** Another node's lease, and how long it still lasts, milliseconds. */
interface Lease {
  readonly node: string;
  readonly leftMs: number;
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
  readonly #others: () => Promise<readonly Lease[]>;
  #ordinal = 0;
  /** Monotonic milliseconds, from before it was asked for. */
  #leaseUntilMs = 0;
  #claims: { readonly works: readonly string[]; readonly untilMs: number } = { works: [], untilMs: 0 };
  #news: (positions: Positions) => void = () => undefined;
  #stop: () => Promise<void> = async () => undefined;

  private constructor(options: NodesOptions) {
    this.#options = options;
    this.#leaseMs = 2 * options.answersForMs;
    this.#others = coalesced(() => this.#askLeases());
    this.#messages = new NodeMessages({
      ...options,
      heard: (node, positions) => this.#heard(node, positions),
    });
    this.publications = new PostgresPublications({
      ...{ node: options.node, ask: options.ask, isPublisher: () => this.does('crl') },
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

  get ordinal(): number {
    return this.#ordinal;
  }

  does(work: Work): boolean {
    const { works: claimed, untilMs } = this.#claims;
    return claimed.includes(work) && this.#options.clock.monotonicMs() < untilMs;
  }

  async completeUntil(nowMs: number): Promise<number> {
    const { clock, answersForMs, timedByServer, ask } = this.#options;
    const { rows } = await ask({ text: complete, values: [] });
    const [serverMs, underWayMs] = rows[0] as [number, number];
    const completeMs = timedByServer ? Math.min(nowMs, serverMs) : nowMs - Math.ceil(underWayMs);
    const overdueMs = clock.monotonicMs() - (this.#leaseUntilMs - answersForMs);
    return completeMs - Math.max(0, Math.ceil(overdueMs));
  }

  announce(positions: Positions): void {
    this.#messages.announce(positions);
  }

  onNews(act: (positions: Positions) => void): void {
    this.#news = act;
  }

  async reached(positions: Positions): Promise<void> {
    const others = await this.#others();
    await Promise.all(
      others.map(({ node, leftMs }) =>
        this.#reachedBy(node, positions, Math.min(leftMs, this.#options.answersForMs) + marginMs),
      ),
    );
  }

  /** Its lease and its claims end with it. */
  async close(): Promise<void> {
    await this.#stop();
    const { node, logger } = this.#options;
    try {
      await this.#messages.within((session) =>
        Promise.all([
          session.query('UPDATE "workClaim" SET until = clock_timestamp() WHERE node = $1', [node]),
          session.query('UPDATE "nodeLease" SET "leaseUntil" = clock_timestamp() WHERE node = $1', [node]),
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
    const { node, clock } = this.#options;
    const askedMs = clock.monotonicMs();
    await this.#messages.within(async (session) => {
      const [{ rows }, claimed] = await Promise.all([
        session.query(renew, [node, this.#leaseMs]),
        session.query(claim, [node, this.#leaseMs, `{${works.join()}}`]),
      ]);
      this.#ordinal = Number(rows[0]?.[0] ?? (await this.#register(session)));
      this.#leaseUntilMs = askedMs + this.#leaseMs;
      this.#claims = {
        works: claimed.rows.map(([work]) => String(work)),
        untilMs: askedMs + this.#leaseMs * (1 - claimMargin),
      };
    });
  }

  /** One node at a time. */
  async #register(session: Session): Promise<number> {
    const { node } = this.#options;
    const statements = [
      session.query('BEGIN'),
      session.query('SELECT pg_advisory_xact_lock($1::bigint)', [lockNumber('nodes').toString()]),
      session.query(forget, [node]),
    ];
    const registered = session.query(register, [node, this.#leaseMs]);
    await Promise.all([...statements, registered, session.query('COMMIT')]);
    const ordinal = (await registered).rows[0]?.[0];
    if (ordinal === undefined)
      throw new PkiError(
        'bad-request',
        `${nodesMax} CA nodes have this record: one of them is to be stopped, and an hour later another may start`,
      );
    return Number(ordinal);
  }

  async #askLeases(): Promise<readonly Lease[]> {
    const { node, ask } = this.#options;
    const { rows } = await ask({ text: leases, values: [node] });
    return rows.map(([name, leftMs]) => ({ node: String(name), leftMs: Number(leftMs) }));
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

  #heard(node: string, positions: Positions): void {
    const applied = { ...this.#applied.get(node), ...positions };
    this.#applied.set(node, applied);
    for (const waiting of this.#waiting)
      if (waiting.node === node && covers(applied, waiting.positions)) waiting.resolve();
    this.#news(positions);
  }
}

const covers = (applied: Positions = {}, positions: Positions): boolean =>
  Object.entries(positions).every(([writer, position]) => (applied[writer] ?? 0) >= position);
