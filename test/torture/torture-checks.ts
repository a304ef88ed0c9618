import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Answer, CaClient } from '../../ca/client/client.ts';
import { layout } from '../../ca/node/layout.ts';
import { verifySigningLog } from '../../ca/signer/signing-log.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { askOcsp, crlAddress, derOf, fetchCrl, listed, ocspRequest } from '../support/actors.ts';
import type { Produced } from './torture-batch.ts';
import type { Certificate, Holder } from './torture-holder.ts';

// What must hold after a kill: of what was acknowledged, of the record, of OCSP and CRLs, and of the signers' logs.

/** A publisher that was killed at its work leaves leases of ten seconds; what it held is published after them. */
const crlWithinMs = 20_000;

/**
 * Has a holder act once. Whether there was an answer, and it was carried out. A refusal would mean that what was acknowledged does not hold.
 * `approver` is the second person.
 */
export async function actOnce(api: CaClient, holder: Holder, approver: CaClient = api): Promise<boolean> {
  const act = holder.next();
  let answer: Answer;
  try {
    answer = await (act.isApproval ? approver : api).post(act.path, act.body, act.key);
    if (answer.status < 300 && act.isDone && !(await act.isDone(api))) return false;
  } catch (error) {
    if (error instanceof SyntaxError) throw error;
    return false;
  }
  // What was under way when the service died is rolled forward before it serves again, or is unknown to it.
  if (answer.status === 503 || isUnderWay(answer)) return false;
  if (answer.status >= 300) throw new Error(`${act.path} for ${holder.id}: ${JSON.stringify(answer.body)}`);
  act.learn(answer.body);
  holder.answered.push({ act, body: answer.body });
  holder.pending = undefined;
  return true;
}

/** Another node has begun it, and has not finished, or died at it. */
const isUnderWay = ({ status, body }: Answer): boolean =>
  status === 409 && String((body as { type?: string }).type).endsWith('request-in-progress');

/** Whatever was answered is answered so again. */
export async function checkAnswers(api: CaClient, holder: Holder, approver: CaClient = api): Promise<void> {
  for (const { act, body } of holder.answered) {
    const replay = await (act.isApproval ? approver : api).post(act.path, act.body, act.key);
    if (!replay.replayed || JSON.stringify(replay.body) !== JSON.stringify(body))
      throw new Error(`${act.path} for ${holder.id} was answered otherwise: ${JSON.stringify(replay.body)}`);
  }
}

/** The record has what was acknowledged and nothing else: no pair is half, nothing is left reserved. */
export async function checkRecord(api: CaClient, holder: Produced): Promise<void> {
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

/** What OCSP and CRLs of one node say. */
export class StatusChecks {
  readonly #addresses: { readonly ocsp: string; readonly crl: string };
  readonly #issuers = new Map<string, Uint8Array>();

  constructor(addresses: { readonly ocsp: string; readonly crl: string }) {
    this.#addresses = addresses;
  }

  async checkOcsp({ authority, pem, state }: Certificate): Promise<void> {
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

  async checkCrls(holders: readonly Produced[]): Promise<void> {
    const expected = new Map<string, Certificate[]>();
    for (const certificate of holders.flatMap(({ certificates }) => certificates)) {
      const { pathname } = new URL(crlAddress(derOf(certificate.pem)));
      const address = `${this.#addresses.crl}${pathname}`;
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

  async #issuer(authority: string): Promise<Uint8Array> {
    const known =
      this.#issuers.get(authority) ?? (await fetchCrl(`${this.#addresses.crl}/ca/${authority}.cer`));
    this.#issuers.set(authority, known);
    return known;
  }
}

/** A script of ours in a process of its own: what it prints. Rejects with what it complains of. */
export async function runScript(script: string, ...args: string[]): Promise<string> {
  const file = new URL(script, import.meta.url).pathname;
  const run = () => promisify(execFile)(process.execPath, [file, ...args], { maxBuffer: 2 ** 28 });
  const { stdout } = await run().catch((error: { signal?: string | null }) => {
    // SoftHSM crashes, once in some thousands, as it loads a token in which another process writes.
    if (error.signal == null) throw error;
    return run();
  });
  return stdout;
}

/** SHA-256 of the to-be-signed bytes of each certificate on record. */
export async function hashesOnRecord(folder: string): Promise<Record<string, string>> {
  return JSON.parse(await runScript('./torture-record.ts', folder)) as Record<string, string>;
}

/** Every hash in the log of a node's signer is of bytes that are on record, and the log is as it was written. */
export function checkSignersLog(folder: string, known: ReadonlySet<string>): void {
  const place = join(layout(folder).signer, 'log');
  verifySigningLog(place, ({ purpose, key, digest }) => {
    // TLS certificates of the operations CA are on record otherwise.
    if (purpose === 'certificate' && key !== 'operations-1' && !known.has(digest))
      throw new Error(`${key} signed ${digest}, which is not on record`);
  });
}

/** Every hash in the log of what signing processes have signed is of bytes that are on record. */
export function checkSigned(folder: string, known: ReadonlySet<string>): void {
  for (const line of readFileSync(join(folder, 'signed.log'), 'utf8').trim().split('\n')) {
    const [purpose, key, hash = ''] = line.split(' ');
    // TLS certificates of the operations CA are not of the record.
    if (purpose === 'certificate' && key !== 'operations-1' && !known.has(hash))
      throw new Error(`${key} signed ${hash}, which is not on record`);
  }
}
