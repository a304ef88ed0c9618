// `npm run torture -- --kills N`: kills the real service (SIGKILL) at random moments under mixed load, and holds
// the record, the answers, OCSP and CRLs against what was acknowledged. Exit 0 only if all of it holds.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { KeyFactory } from '../../bench/load/keys.ts';
import type { Answer, CaClient } from '../../ca/client/client.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { askOcsp, crlAddress, derOf, fetchCrl, listed, namedClient, ocspRequest } from '../support/actors.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';
import { type Produced, Production } from './torture-batch.ts';
import { type Certificate, Holder } from './torture-holder.ts';

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
/** A publisher that was killed at its work leaves leases of ten seconds; what it held is published after them. */
const crlWithinMs = 20_000;

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
  readonly #issuers = new Map<string, Uint8Array>();
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
      await this.#checkRecord(api, holder);
      for (const certificate of holder.certificates) await this.#checkOcsp(certificate);
    }
    await this.#checkCrls([...all, ...produced]);
    this.acknowledged += this.#production.acknowledged;
    await api.close();
    await this.#process.stop();
    await this.#checkSigned();
    await this.#run('../../ca/main.ts', 'audit', 'verify', '--data', this.#folder);
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

  /** Whether there was an answer. A refusal would mean that what was acknowledged does not hold. */
  async #once(api: CaClient, holder: Holder): Promise<boolean> {
    const act = holder.next();
    let answer: Answer;
    try {
      answer = await api.post(act.path, act.body, act.key);
    } catch (error) {
      if (error instanceof SyntaxError) throw error;
      return false;
    }
    // What was under way when the service died is rolled forward before it serves again, or is unknown to it.
    if (answer.status === 503) return false;
    if (answer.status >= 300) throw new Error(`${act.path} for ${holder.id}: ${JSON.stringify(answer.body)}`);
    act.learn(answer.body);
    holder.answered.push({ act, body: answer.body });
    holder.pending = undefined;
    this.acknowledged += 1;
    return true;
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
      for (const { act, body } of holder.answered) {
        const replay = await api.post(act.path, act.body, act.key);
        if (!replay.replayed || JSON.stringify(replay.body) !== JSON.stringify(body)) {
          throw new Error(
            `${act.path} for ${holder.id} was answered otherwise: ${JSON.stringify(replay.body)}`,
          );
        }
      }
      await this.#checkRecord(api, holder);
      for (const certificate of holder.certificates) await this.#checkOcsp(certificate);
    }
  }

  /** The record has what was acknowledged and nothing else: no pair is half, nothing is left reserved. */
  async #checkRecord(api: CaClient, holder: Produced): Promise<void> {
    if (holder.certificates.length === 0) return;
    type Body = { certificates: { serialNumber: string; status: { state: string } }[] };
    const { body } = await api.get<Body>(`/holders/${holder.id}`);
    const record = body.certificates
      .map(({ serialNumber, status }) => `${serialNumber} ${status.state}`)
      .sort();
    const known = holder.certificates.map(({ serialNumber, state }) => `${serialNumber} ${state}`).sort();
    if (record.join() !== known.join())
      throw new Error(`${holder.id} has ${record.join()}, and the answer named ${known.join()}`);
  }

  async #checkOcsp({ authority, pem, state }: Certificate): Promise<void> {
    const issuer = await this.#issuer(authority);
    const response = Buffer.from(await askOcsp(this.#addresses.ocsp, await ocspRequest(derOf(pem), issuer)));
    // good [0] or revoked [1], behind the CertID: enough to tell them apart, and quick.
    const good = response.includes(Buffer.from('8000180f', 'hex'));
    const revoked = /a1(11|16)180f/.test(response.toString('hex'));
    if (good === revoked)
      throw new Error(`OCSP says neither good nor revoked: ${response.toString('hex').slice(0, 80)}`);
    const says = good ? 'good' : 'revoked';
    if (good !== (state === 'good')) throw new Error(`OCSP says ${says} of a certificate that is ${state}`);
  }

  async #issuer(authority: string): Promise<Uint8Array> {
    const known =
      this.#issuers.get(authority) ?? (await fetchCrl(`${this.#addresses.crl}/ca/${authority}.cer`));
    this.#issuers.set(authority, known);
    return known;
  }

  async #checkCrls(holders: readonly Produced[]): Promise<void> {
    const expected = new Map<string, Certificate[]>();
    for (const certificate of holders.flatMap(({ certificates }) => certificates)) {
      const address = crlAddress(derOf(certificate.pem));
      expected.set(address, [...(expected.get(address) ?? []), certificate]);
    }
    const untilMs = systemClock.monotonicMs() + crlWithinMs;
    for (const [address, certificates] of expected) {
      for (;;) {
        const list = listed(await fetchCrl(address));
        const wrong = certificates.find((each) => list.has(each.serialNumber) !== (each.state !== 'good'));
        if (!wrong) break;
        if (systemClock.monotonicMs() > untilMs)
          throw new Error(`${address} is wrong about ${wrong.serialNumber}, which is ${wrong.state}`);
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    }
  }

  /** A script of ours in a process of its own: what it prints. Rejects with what it complains of. */
  async #run(script: string, ...args: string[]): Promise<string> {
    const file = new URL(script, import.meta.url).pathname;
    const run = () => promisify(execFile)(process.execPath, [file, ...args], { maxBuffer: 2 ** 28 });
    const { stdout } = await run().catch((error: { signal?: string | null }) => {
      // SoftHSM crashes, once in some thousands, as it loads a token in which another process writes.
      if (error.signal == null) throw error;
      return run();
    });
    return stdout;
  }

  /** Every hash in the signer's own log is of bytes that are on record. */
  async #checkSigned(): Promise<void> {
    const hashes = JSON.parse(await this.#run('./torture-record.ts', this.#folder)) as Record<string, string>;
    for (const [name, hash] of Object.entries(hashes)) this.#onRecord.set(name, hash);
    const known = new Set(this.#onRecord.values());
    for (const line of readFileSync(join(this.#folder, 'signed.log'), 'utf8').trim().split('\n')) {
      const [purpose, key, hash = ''] = line.split(' ');
      // TLS certificates of the operations CA are not of the record.
      if (purpose === 'certificate' && key !== 'operations-1' && !known.has(hash)) {
        throw new Error(`${key} signed ${hash}, which is not on record`);
      }
    }
  }
}

if (import.meta.main) {
  const program = new Command('torture').option('--kills <n>', 'how often the service is killed', '100');
  const kills = Number(program.parse().opts<{ kills: string }>().kills);
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  try {
    const report = await torture(kills, say);
    say(`${report.kills} kills survived`);
  } catch (error) {
    process.stderr.write(`${(error as Error).stack}\n`);
    process.exitCode = 1;
  }
}
