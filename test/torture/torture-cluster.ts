// `npm run torture -- --database postgres --nodes 2 --kills N --failovers M`: kills CA nodes, and the primary of their database, at random
// moments under load, and holds what was acknowledged against the record, OCSP and CRLs of every node, and the signers' logs.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KeyFactory } from '../../bench/load/keys.ts';
import type { CaClient } from '../../ca/client/client.ts';
import { Session } from '../../store/postgres/session.ts';
import { namedClient } from '../support/actors.ts';
import {
  type Cluster,
  type ClusterNode,
  makeCluster,
  startAgain,
  startFirst,
  startFurther,
} from '../support/cluster.ts';
import { freePort, removeScratch } from '../support/harness.ts';
import { ownKey } from '../support/own-key.ts';
import { startPostgres, startStandby, type TestPostgres } from '../support/postgres-server.ts';
import { startSignerProcess } from '../support/service-process.ts';
import { Production } from './torture-batch.ts';
import {
  actOnce,
  checkAnswers,
  checkRecord,
  checkSignersLog,
  hashesOnRecord,
  runScript,
  StatusChecks,
} from './torture-checks.ts';
import { Holder } from './torture-holder.ts';

export interface ClusterTorture {
  readonly kills: number;
  readonly nodes: number;
  readonly failovers: number;
}

export interface ClusterReport {
  readonly kills: number;
  readonly failovers: number;
  readonly acknowledged: number;
  readonly signed: number;
}

/** Holders that act at the same time, each on whichever node answers. */
const holdersAtOnce = 6;
const actsMax = 6;
/** Load runs so long between two kills, at most, and a node is away so long. */
const [killWithinMs, awayMsMost] = [1500, 2000];
/** Of holders, whose phone's model is restricted by two persons. */
const restrictedShare = 0.4;
/** Of kills, which are of a signer alone. */
const signersShare = 0.25;
/** Before an act is tried again that had no answer. */
const retryMs = 100;
/** What has no answer by then has none. */
const answeredWithinMs = 60_000;

/** Kills nodes and primaries so often; rejects with what did not hold. */
export async function tortureCluster(
  options: ClusterTorture,
  say: (line: string) => void,
): Promise<ClusterReport> {
  await using torture = await Torture.open(options);
  const { kills, failovers } = options;
  for (let kill = 1; kill <= kills; kill++) {
    // Spread over the kills.
    const isFailover = Math.floor((kill * failovers) / kills) > Math.floor(((kill - 1) * failovers) / kills);
    await torture.round(isFailover);
    say(`${kill} kills, ${torture.failovers} failovers: ${torture.acknowledged} acts acknowledged`);
  }
  const signed = await torture.finish();
  return { kills, failovers: torture.failovers, acknowledged: torture.acknowledged, signed };
}

class Torture implements AsyncDisposable {
  readonly #servers: TestPostgres[];
  readonly #ports: readonly number[];
  readonly #nodes: ClusterNode[] = [];
  /** The second person, as a client of each node. */
  readonly #approvers = new Map<string, CaClient>();
  readonly #keys: KeyFactory;
  readonly #production: Production;
  #holders: Holder[] = [];
  readonly #done: Holder[] = [];
  #names = 0;
  #isLoading = false;
  acknowledged = 0;
  failovers = 0;

  private constructor(servers: TestPostgres[], ports: readonly number[], primes: number) {
    this.#servers = servers;
    this.#ports = ports;
    this.#keys = new KeyFactory(primes);
    this.#production = new Production(this.#keys);
  }

  static async open({ kills, nodes, failovers }: ClusterTorture): Promise<Torture> {
    const first = await startPostgres();
    const ports = [first.port];
    while (ports.length < failovers + 2) ports.push(await freePort());
    const torture = new Torture([first], ports, Math.ceil(Math.sqrt(kills * 200)) + 60);
    try {
      await torture.#attachStandby();
      const cluster = await torture.#configure();
      torture.#nodes.push(await startFirst(cluster));
      const [one] = torture.#nodes as [ClusterNode];
      for (let number = 2; number <= nodes; number++)
        torture.#nodes.push(await startFurther(cluster, one, `ca-${number}`));
      await torture.#addApprover(one);
      return torture;
    } catch (error) {
      await torture[Symbol.asyncDispose]();
      throw error;
    }
  }

  #configure(): Promise<Cluster> {
    const hosts = this.#ports.map((port) => `127.0.0.1:${port}`);
    const [first] = this.#servers as [TestPostgres];
    return makeCluster(
      {
        pkcs11: { isolation: 'signer', signingThreads: 1 },
        ocsp: { feedLagMax: '2s', signedAnswersFor: '0' },
      },
      {
        record: { postgres: { hosts, database: 'postgres', user: 'warifu', tls: 'off' } },
        password: first.password,
      },
    );
  }

  /** Load, a kill under it, and what must hold once all are there again. */
  async round(isFailover: boolean): Promise<void> {
    this.#replaceHolders();
    this.#isLoading = true;
    const load = Promise.allSettled([...this.#holders.map((holder) => this.#act(holder)), this.#produce()]);
    await sleep(Math.random() * killWithinMs);
    await Promise.all([this.#killNode(), ...(isFailover ? [this.#failOver()] : [])]);
    await sleep(Math.random() * killWithinMs);
    this.#isLoading = false;
    const failed = (await load).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    await this.#settle();
    for (const node of this.#nodes) await this.#check(node, this.#holders);
  }

  /** Every holder there ever was, at every node; every CRL; what was signed; the audit chains. Gives how many signatures are on record. */
  async finish(): Promise<number> {
    const all = [...this.#done, ...this.#holders];
    for (const node of this.#nodes) {
      await this.#check(node, all);
      await this.#production.check(node.api);
      const status = new StatusChecks(node.service.addresses);
      for (const each of this.#production.produced) {
        await checkRecord(node.api, each);
        for (const certificate of each.certificates) await status.checkOcsp(certificate);
      }
      await status.checkCrls([...all, ...this.#production.produced]);
    }
    this.acknowledged += this.#production.acknowledged;
    const [first] = this.#nodes as [ClusterNode];
    const onRecord = new Set(Object.values(await hashesOnRecord(first.folder)));
    for (const { folder } of this.#nodes) checkSignersLog(folder, onRecord);
    await runScript('../../ca/main.ts', 'audit', 'verify', '--data', first.folder);
    return onRecord.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isLoading = false;
    for (const { api, service, signer } of this.#nodes) {
      for (const each of [service, signer]) {
        each?.child.kill('SIGKILL');
        await each?.exited;
      }
      await api.close();
    }
    for (const approver of this.#approvers.values()) await approver.close();
    for (const server of this.#servers.slice(-2)) server.stop('immediate');
    for (const server of this.#servers) server.remove();
    removeScratch();
  }

  #replaceHolders(): void {
    this.#done.push(...this.#holders.filter(({ acts }) => acts >= actsMax));
    this.#holders = this.#holders.filter(({ acts }) => acts < actsMax);
    while (this.#holders.length < holdersAtOnce)
      this.#holders.push(new Holder(`h${++this.#names}`, this.#keys, Math.random() < restrictedShare));
  }

  get #anyNode(): ClusterNode {
    return this.#nodes[Math.floor(Math.random() * this.#nodes.length)] as ClusterNode;
  }

  /** Acts at one node or another, with the same key where there was no answer. */
  async #act(holder: Holder): Promise<void> {
    while (this.#isLoading && (holder.acts < actsMax || holder.pending)) {
      if (await this.#once(holder)) this.acknowledged += 1;
      else await sleep(retryMs);
    }
  }

  #once(holder: Holder): Promise<boolean> {
    const { api, name } = this.#anyNode;
    return actOnce(api, holder, this.#approvers.get(name));
  }

  /** A second person, known to every node, who approves. */
  async #addApprover(first: ClusterNode): Promise<void> {
    const { request, key } = await ownKey();
    const answer = await first.api.post<{ certificate: string }>('/clients', {
      ...{ request, name: 'second', desks: [], roles: ['revoker'] },
    });
    const file = (end: string): string => join(first.folder, 'clients', `second.${end}`);
    writeFileSync(file('key'), key, { mode: 0o600 });
    writeFileSync(file('pem'), answer.body.certificate);
    for (const { name, service } of this.#nodes)
      this.#approvers.set(name, namedClient(first.folder, service.addresses.api, 'second'));
  }

  async #produce(): Promise<void> {
    while (this.#isLoading) {
      await this.#production.produce(this.#anyNode.api);
      await sleep(retryMs);
    }
  }

  async #killNode(): Promise<void> {
    const at = Math.floor(Math.random() * this.#nodes.length);
    const node = this.#nodes[at] as ClusterNode;
    if (Math.random() < signersShare) return this.#killSigner(at);
    node.service.child.kill('SIGKILL');
    await node.service.exited;
    await node.api.close();
    await sleep(Math.random() * awayMsMost);
    const [first] = this.#nodes as [ClusterNode];
    this.#nodes[at] = await within(() => startAgain(node, first));
  }

  /** Its service stays, and goes on with the next signer. */
  async #killSigner(at: number): Promise<void> {
    const node = this.#nodes[at] as ClusterNode;
    node.signer?.child.kill('SIGKILL');
    await node.signer?.exited;
    await sleep(Math.random() * awayMsMost);
    this.#nodes[at] = { ...node, signer: await startSignerProcess(node.folder) };
  }

  /** The primary dies, its standby is promoted, and has a standby of its own. */
  async #failOver(): Promise<void> {
    this.#servers.at(-2)?.stop('immediate');
    this.#servers.at(-1)?.promote();
    this.failovers += 1;
    await this.#attachStandby();
  }

  async #attachStandby(): Promise<void> {
    const primary = this.#servers.at(-1) as TestPostgres;
    const port = this.#ports[this.#servers.length] as number;
    this.#servers.push(startStandby(primary, { name: `standby${this.#servers.length}`, port }));
    const session = await Session.open(primary.server, { name: 'by hand' });
    await session.query(`ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'`);
    await session.query('SELECT pg_reload_conf()');
    await session.close();
  }

  /** Whatever had no answer has one now, at one node or the other. */
  async #settle(): Promise<void> {
    for (const holder of this.#holders)
      if (holder.pending)
        await within(async () => {
          if (!(await this.#once(holder)))
            throw new Error(`no answer to ${holder.pending?.path} for ${holder.id}`);
          this.acknowledged += 1;
        });
    await within(() => this.#production.settle(this.#anyNode.api));
  }

  async #check({ api, name, service }: ClusterNode, holders: readonly Holder[]): Promise<void> {
    const status = new StatusChecks(service.addresses);
    for (const holder of holders) {
      await checkAnswers(api, holder, this.#approvers.get(name));
      await checkRecord(api, holder);
      // What was issued elsewhere is here within moments; what was revoked is, from its answer on.
      for (const certificate of holder.certificates)
        await (certificate.state === 'revoked'
          ? status.checkOcsp(certificate)
          : within(() => status.checkOcsp(certificate), 5000));
    }
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Tries until it succeeds. Rejects with what failed last. */
async function within<T>(act: () => Promise<T>, ms = answeredWithinMs): Promise<T> {
  const untilMs = performance.now() + ms;
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (performance.now() > untilMs) throw error;
      await sleep(retryMs);
    }
  }
}
