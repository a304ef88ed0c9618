// `npm run torture -- --kills N`: kills the real service (SIGKILL) at random moments under mixed load, and holds
// the record, the answers, OCSP and CRLs against what was acknowledged. Exit 0 only if all of it holds.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { KeyFactory } from '../../bench/load/keys.ts';
import type { CaClient } from '../../ca/client/client.ts';
import { namedClient } from '../support/actors.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';
import { Production } from './torture-batch.ts';
import {
  actOnce,
  checkAnswers,
  checkRecord,
  checkSigned,
  hashesOnRecord,
  runScript,
  StatusChecks,
} from './torture-checks.ts';
import { Holder } from './torture-holder.ts';

/** Holders that act at the same time; each does one thing after the other, so that what must hold is known. */
const holdersAtOnce = 6;
/** The service is killed this long after load begins, at most. */
const killWithinMs = 500;
/** A start takes about so long. */
const startWithinMs = 600;
/** A holder's story is over after so many acts; a new one takes the place. */
const actsMax = 6;
/** What was signed and is not on record will never be: it need not be looked for after each kill. */
const checkedEvery = 6;

export interface TortureReport {
  readonly kills: number;
  readonly acknowledged: number;
  readonly signed: number;
}

/** Kills the service so many times; rejects with what did not hold. */
export async function torture(kills: number, say: (line: string) => void): Promise<TortureReport> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-torture-'));
  const folder = join(scratch, 'data');
  const addresses = await configure(folder, {
    pkcs11: { signedLog: true, isolation: 'processes' },
    // It begins so often that one worker less to begin is time for more kills.
    crl: { workers: 1 },
  });
  const run = new Torture(folder, addresses, Math.ceil(Math.sqrt(kills * 90)) + 40);
  try {
    for (let kill = 1; kill <= kills; kill++) {
      await run.kill();
      if (kill % 10 === 0 || kill === kills)
        say(`${kill} kills: ${run.acknowledged} acts acknowledged, ${run.signed} signatures on record`);
    }
    await run.finish();
    return { kills, acknowledged: run.acknowledged, signed: run.signed };
  } finally {
    run.abandon();
    rmSync(scratch, { recursive: true, force: true });
  }
}

class Torture {
  readonly #folder: string;
  readonly #addresses: ServiceProcess['addresses'];
  readonly #keys: KeyFactory;
  readonly #production: Production;
  readonly #status: StatusChecks;
  /** To-be-signed hashes that the record has; what is once on record is not read again. */
  readonly #onRecord = new Map<string, string>();
  #holders: Holder[] = [];
  readonly #done: Holder[] = [];
  #process: ServiceProcess | undefined;
  #names = 0;
  #lives = 0;
  acknowledged = 0;

  constructor(folder: string, addresses: ServiceProcess['addresses'], primes: number) {
    this.#folder = folder;
    this.#addresses = addresses;
    this.#status = new StatusChecks(addresses);
    this.#keys = new KeyFactory(primes);
    this.#production = new Production(this.#keys);
  }

  get signed(): number {
    return this.#onRecord.size;
  }

  /** A start that does not get far: recovery, too, can be killed. */
  async #killWhileStarting(): Promise<void> {
    const started = startProcess(this.#folder, this.#addresses, (child) => {
      setTimeout(() => child.kill('SIGKILL'), Math.random() * startWithinMs);
    });
    const [result] = await Promise.allSettled([started]);
    if (result.status === 'fulfilled') await result.value.exited;
  }

  /** Start, check what the kill before left, load, kill; now and then check that whatever was signed is on record. */
  async kill(): Promise<void> {
    if (this.#names > 0 && Math.random() < 0.25) await this.#killWhileStarting();
    this.#process = await startProcess(this.#folder, this.#addresses);
    const api = namedClient(this.#folder, this.#addresses.api, 'first');
    await this.#settle(api);
    await this.#check(api, this.#holders);
    this.#replaceHolders();
    const load = Promise.allSettled([
      ...this.#holders.map((holder) => this.#act(api, holder)),
      this.#production.produce(api),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * killWithinMs));
    this.#process.child.kill('SIGKILL');
    await this.#process.exited;
    const refused = (await load).find((result) => result.status === 'rejected');
    if (refused) throw refused.reason;
    await api.close();
    this.#lives += 1;
    if (this.#lives % checkedEvery === 0) await this.#checkSigned();
  }

  /** One last start: every holder there ever was, every CRL, and the audit chain. */
  async finish(): Promise<void> {
    this.#process = await startProcess(this.#folder, this.#addresses);
    const api = namedClient(this.#folder, this.#addresses.api, 'first');
    await this.#settle(api);
    const all = [...this.#done, ...this.#holders];
    await this.#check(api, all);
    await this.#production.check(api);
    const { produced } = this.#production;
    for (const holder of produced) {
      await checkRecord(api, holder);
      for (const certificate of holder.certificates) await this.#status.checkOcsp(certificate);
    }
    await this.#status.checkCrls([...all, ...produced]);
    this.acknowledged += this.#production.acknowledged;
    await api.close();
    await this.#process.stop();
    await this.#checkSigned();
    await runScript('../../ca/main.ts', 'audit', 'verify', '--data', this.#folder);
  }

  abandon(): void {
    this.#process?.child.kill('SIGKILL');
  }

  #replaceHolders(): void {
    this.#done.push(...this.#holders.filter(({ acts }) => acts >= actsMax));
    this.#holders = this.#holders.filter(({ acts }) => acts < actsMax);
    while (this.#holders.length < holdersAtOnce)
      this.#holders.push(new Holder(`h${++this.#names}`, this.#keys));
  }

  /** Acts until the service is gone. */
  async #act(api: CaClient, holder: Holder): Promise<void> {
    while (holder.acts < actsMax || holder.pending) if (!(await this.#once(api, holder))) return;
  }

  async #once(api: CaClient, holder: Holder): Promise<boolean> {
    const isAnswered = await actOnce(api, holder);
    if (isAnswered) this.acknowledged += 1;
    return isAnswered;
  }

  /** Whatever had no answer is asked again, and has one now. */
  async #settle(api: CaClient): Promise<void> {
    for (const holder of this.#holders) {
      if (holder.pending && !(await this.#once(api, holder)))
        throw new Error(`no answer to ${holder.pending?.path} for ${holder.id}`);
    }
    await this.#production.settle(api);
  }

  async #check(api: CaClient, holders: readonly Holder[]): Promise<void> {
    for (const holder of holders) {
      await checkAnswers(api, holder);
      await checkRecord(api, holder);
      for (const certificate of holder.certificates) await this.#status.checkOcsp(certificate);
    }
  }

  /** Every hash in the signer's own log is of bytes that are on record. */
  async #checkSigned(): Promise<void> {
    const hashes = await hashesOnRecord(this.#folder);
    for (const [name, hash] of Object.entries(hashes)) this.#onRecord.set(name, hash);
    checkSigned(this.#folder, new Set(this.#onRecord.values()));
  }
}

if (import.meta.main) {
  const program = new Command('torture')
    .option('--kills <n>', 'how often the service, or a node, is killed', '100')
    .addOption(
      new Option(
        '--database <name>',
        'where the record is; postgres: on servers of its own, with several nodes',
      )
        .choices(['sqlite', 'postgres'])
        .default('sqlite'),
    )
    .option('--nodes <n>', 'CA nodes, on postgres', '2')
    .option('--failovers <n>', 'how often the database’s primary is killed, on postgres', '2');
  const { database, ...given } = program.parse().opts<Record<string, string>>();
  const [kills = 0, nodes = 0, failovers = 0] = [given.kills, given.nodes, given.failovers].map(Number);
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  try {
    if (database === 'postgres') {
      const { tortureCluster } = await import('./torture-cluster.ts');
      await tortureCluster({ kills, nodes, failovers }, say);
    } else await torture(kills, say);
    say(`${kills} kills survived`);
    process.exit();
  } catch (error) {
    process.stderr.write(`${(error as Error).stack}\n`);
    process.exit(1);
  }
}
