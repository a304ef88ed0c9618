import type { Issued } from '../../ca/client/client.ts';
import { Session } from '../../store/postgres/session.ts';
import { cardRequest } from '../../test/support/actors.ts';
import {
  type ClusterNode,
  makeCluster,
  startFirst,
  startFurther,
  stopNode,
} from '../../test/support/cluster.ts';
import { startPostgres, startStandby } from '../../test/support/postgres-server.ts';
import { freePort } from '../../test/support/service-process.ts';
import { KeyFactory } from '../load/keys.ts';
import { median } from '../load/measure.ts';
import { tell } from '../report/told.ts';

/** Callers that issue, and that revoke what was issued, at the same time. */
const [issuers, revokers] = [6, 2];
/** Load before the primary is killed, and behind the first answers after that. */
const loadMs = 3000;
/** What has no answer by then has none. */
const answeredMs = 60_000;

interface Pair {
  readonly holderId: string;
  readonly serialNumbers: readonly string[];
  revoked: boolean;
}

/**
 * Kills the primary of two nodes' database under load, and promotes its synchronous standby at once. Seconds from the kill to the first answer to
 * what was sent after it; and what was acknowledged and is not on record.
 */
export async function benchFailover({
  rounds,
}: {
  readonly rounds: number;
}): Promise<Record<string, number>> {
  const measured: Round[] = [];
  for (let round = 0; round < rounds; round++) {
    tell(`failover ${round + 1} of ${rounds}`);
    measured.push(await failOver());
  }
  const of = (what: keyof Round): number => median(measured.map((each) => each[what]));
  return {
    lost: measured.reduce((sum, { lost }) => sum + lost, 0),
    acknowledged: measured.reduce((sum, { acknowledged }) => sum + acknowledged, 0),
    secondsToPromote: of('secondsToPromote'),
    secondsToFirstRevoke: of('secondsToFirstRevoke'),
    secondsToFirstIssue: of('secondsToFirstIssue'),
    rounds,
  };
}

interface Round {
  readonly lost: number;
  readonly acknowledged: number;
  readonly secondsToPromote: number;
  readonly secondsToFirstRevoke: number;
  readonly secondsToFirstIssue: number;
}

async function failOver(): Promise<Round> {
  await using opened = new AsyncDisposableStack();
  const primary = await startPostgres();
  opened.defer(() => primary.remove());
  const ports = [primary.port, await freePort()];
  const standby = startStandby(primary, { name: 'standby', port: ports[1] as number });
  opened.defer(() => {
    standby.stop('immediate');
    standby.remove();
  });
  const session = await Session.open(primary.server, { name: 'bench' });
  await session.query(`ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'`);
  await session.query('SELECT pg_reload_conf()');
  await session.close();
  const hosts = ports.map((port) => `127.0.0.1:${port}`);
  const record = { postgres: { hosts, database: 'postgres', user: 'warifu', tls: 'off' } };
  const cluster = await makeCluster({}, { record, password: primary.password });
  const nodes = [await startFirst(cluster)];
  opened.defer(async () => {
    for (const node of nodes.reverse()) await stopNode(node);
  });
  nodes.push(await startFurther(cluster, nodes[0] as ClusterNode, 'ca-2'));
  return await measureRound(nodes, () => {
    primary.stop('immediate');
    standby.promote();
  });
}

async function measureRound(nodes: readonly ClusterNode[], kill: () => void): Promise<Round> {
  const load = new Load(nodes);
  await sleep(loadMs);
  const killedMs = performance.now();
  kill();
  const promotedMs = performance.now();
  load.killedMs = promotedMs;
  await load.answeredAgain();
  await sleep(loadMs);
  const pairs = await load.stop();
  const lost = await countLost(nodes[0] as ClusterNode, pairs);
  const since = (ms: number | undefined): number => ((ms ?? Number.NaN) - killedMs) / 1000;
  return {
    ...{ lost, acknowledged: pairs.length },
    secondsToPromote: since(promotedMs),
    secondsToFirstRevoke: since(load.firstRevokeMs),
    secondsToFirstIssue: since(load.firstIssueMs),
  };
}

/** Callers that go on whatever happens, on one node or the other. */
class Load {
  readonly #nodes: readonly ClusterNode[];
  readonly #keys = new KeyFactory(120);
  readonly #pairs: Pair[] = [];
  readonly #running: Promise<void>[];
  #count = 0;
  #isStopped = false;
  /** What is sent from then on counts. */
  killedMs = Number.POSITIVE_INFINITY;
  firstIssueMs: number | undefined;
  firstRevokeMs: number | undefined;

  constructor(nodes: readonly ClusterNode[]) {
    this.#nodes = nodes;
    this.#running = [
      ...Array.from({ length: issuers }, () => this.#repeat(() => this.#issue())),
      ...Array.from({ length: revokers }, () => this.#repeat(() => this.#revoke())),
    ];
  }

  async answeredAgain(): Promise<void> {
    const untilMs = performance.now() + answeredMs;
    while (this.firstIssueMs === undefined || this.firstRevokeMs === undefined) {
      if (performance.now() > untilMs) throw new Error('there was no answer after the failover');
      await sleep(10);
    }
  }

  async stop(): Promise<readonly Pair[]> {
    this.#isStopped = true;
    await Promise.all(this.#running);
    return this.#pairs;
  }

  async #repeat(act: () => Promise<boolean>): Promise<void> {
    while (!this.#isStopped) if (!(await act())) await sleep(20);
  }

  get #api(): ClusterNode['api'] {
    return (this.#nodes[Math.floor(Math.random() * this.#nodes.length)] as ClusterNode).api;
  }

  async #issue(): Promise<boolean> {
    const holderId = `h-${++this.#count}`;
    const chip = { signing: this.#keys.next(), authentication: this.#keys.next() };
    const sentMs = performance.now();
    const body = cardRequest(chip, { holderId, cardId: `c-${holderId}` });
    const answer = await this.#api.post<Issued>('/card-certificates', body).catch(() => undefined);
    if (answer?.status !== 201) return false;
    const serialNumbers = answer.body.certificates.map(({ serialNumber }) => serialNumber);
    this.#pairs.push({ holderId, serialNumbers, revoked: false });
    if (sentMs > this.killedMs) this.firstIssueMs ??= performance.now();
    return true;
  }

  async #revoke(): Promise<boolean> {
    const pair = this.#pairs.find(({ revoked }) => !revoked);
    if (!pair) return false;
    pair.revoked = true;
    const sentMs = performance.now();
    const died = { event: 'died', holderId: pair.holderId };
    const answer = await this.#api.post('/events', died).catch(() => undefined);
    if (answer?.status !== 200) {
      pair.revoked = false;
      return false;
    }
    if (sentMs > this.killedMs) this.firstRevokeMs ??= performance.now();
    return true;
  }
}

/** Pairs that were issued, or revoked, and are not on record as such. */
async function countLost({ api }: ClusterNode, pairs: readonly Pair[]): Promise<number> {
  type Body = { certificates: { serialNumber: string; status: { state: string } }[] };
  let lost = 0;
  for (const { holderId, serialNumbers, revoked } of pairs) {
    const { status, body } = await api.get<Body>(`/holders/${holderId}`);
    const states = new Map(
      (status === 200 ? body.certificates : []).map((each) => [each.serialNumber, each.status.state]),
    );
    const isThere = serialNumbers.every(
      (serial) => states.has(serial) && (!revoked || states.get(serial) === 'revoked'),
    );
    if (!isThere) lost += 1;
  }
  return lost;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
