import type { Logger } from 'pino';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Nodes } from '../api/nodes.ts';
import type { PolicyTable } from '../api/policy.ts';
import type { AuditKey } from './audit-key.ts';
import type { Heads, RecordReader } from './record.ts';
import type { OutcomeSeal, Rule } from './rule.ts';

/**
 * A transactional store of the tables in `schema.ts`.
 *
 * - Durability: `run` resolves once its changes, its events and its audit entry are on disk, together.
 * - Isolation: serializable. A rule may be decided again.
 * - Atomicity: where a rule throws, nothing of it stays, and `run` rejects with what was thrown.
 * - Concurrency: calls queue; waiting ones share a commit. Beyond the bound of the queue: `overloaded`.
 * - Errors: `record-unavailable` where the database cannot be read or written, and from then on where the audit chain on record is
 *   not the one that was written here.
 */
export interface RecordDatabase {
  /** Who writes here: names this node's streams of events and audit entries. */
  readonly writer: string;
  /** From now on the rows that `replicated.ts` names travel in the feed, sealed for the CA alone. */
  sealWith(seal: JournalSeal): void;
  /** From now on audit entries are authenticated with this key. */
  authenticateWith(key: AuditKey): void;
  /** From now on outcomes are sealed by this; before, no rule that leaves one can run. */
  sealOutcomesWith(seal: OutcomeSeal): void;
  /** From now on rules plan by this table; before, by one without events. */
  decideBy(policy: PolicyTable): void;
  /**
   * Runs `body` on one state of what is committed. It is a function of what it reads, for it may run several times: it changes nothing, and waits for
   * nothing else.
   */
  read<R>(body: (reader: RecordReader) => R | Promise<R>): Promise<R>;
  /** Has a rule decide, and writes what it decides. `nowMs` is the record's time. Rejects with what the rule throws. */
  run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome>;
  /** What `run` would come to. Writes nothing. */
  preview<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input, nowMs: number): Promise<Outcome>;
  /** Begins and ends an empty transaction; after a commit that failed, one that writes. Rejects where that fails. */
  probe(): Promise<void>;
  /** What is wrong with the database as its own software sees it; undefined where nothing is. */
  integrity(): Promise<string | undefined>;
  /** Why what is acknowledged could be lost with one machine, where several are to hold it; undefined where it could not, or only one is to. */
  standbyFault?(): Promise<string | undefined>;
  /**
   * Has this process take part as one of the nodes of the record, where it can have several. `answersForMs`: how long a follower answers by
   * what it has received. To be closed before the database.
   */
  openNodes?(options: { readonly answersForMs: number; readonly logger: Logger }): Promise<Nodes>;
  /** Names of the nodes that take part now, this one aside. */
  otherNodes?(): Promise<readonly string[]>;
  /** Names of those that took part, and ended without a word, or were stopped. */
  goneNodes?(): Promise<readonly string[]>;
  /** Where the writer's audit chain stands by what this process wrote or read; undefined before either. Also when it cannot be read. */
  readonly knownHead: Pick<Heads, 'sequence' | 'hash'> | undefined;
  /** Milliseconds of a core that deciding and writing have taken in this process so far. */
  readonly busyMs: number;
  /** How often what writes has sent something to a database server, and waited for the answer; none where the record is a file. */
  readonly flushes?: number;
  /** Finishes what is queued and closes. */
  close(): Promise<void>;
}
