import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { durationMs } from '../../core/config/duration.ts';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import type { ConsoleActName } from '../../core/model/approval.ts';
import { type Bytes, digest, equal, hex } from '../../core/runtime/bytes.ts';
import { createDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { clientIdOf } from '../../store/api/client-store.ts';
import { type ConsoleAct, recordConsoleAct } from '../../store/rules/console-acts.ts';
import { incarnationOf } from '../../store/rules/token-memory.ts';
import { wantedSignatures } from '../config/approvals.ts';
import type { Config } from '../config/config.ts';
import { readSignedMessage, type SignedMessage } from '../request/signed-message.ts';
import { whyNoApprover } from './approvers.ts';
import type { Layout } from './layout.ts';
import { type Node, nodeActor } from './node.ts';
import { refuseNotAllowed } from './production.ts';

// Acts at the console that two persons sign for. A command that needs them writes its plan to a file, and does nothing. Two administrators
// look at the plan, and sign it with the keys of their client certificates (CMS, RFC 5652). The command is run again with what they signed,
// and carries that plan out, if it is still what it would do. Invariants:
//
// - A plan is of one act with its arguments and consequences, of one record, and ends.
// - The persons are two, and administrators now: by the record, or, where a record is restored, by the token.
// - A plan is carried out once, but for a standing one of backups. The token remembers.
// - What was signed for is on record before it is done; of a restore, at the next start.

/** Content type of what is signed. */
export const planContentType = '1.3.6.1.4.1.32473.8.6';
const personsWanted = 2;
/** How long a plan can be carried out. */
const planMs: Partial<Record<ConsoleActName, number>> & { readonly other: number } = {
  backup: 90 * 86_400_000,
  other: 86_400_000,
};
const signedMax = 65_536;

const Plan = Type.Object(
  {
    act: Type.String(),
    planId: Type.String(),
    /** Incarnation of the record, or what it is restored from. */
    record: Type.String(),
    arguments: Type.Array(Type.String()),
    does: Type.Array(Type.String()),
    madeAt: Type.String(),
    validUntil: Type.String(),
  },
  { additionalProperties: false },
);
type Plan = Static<typeof Plan>;

/** What a command is about to do. */
export interface ConsoleIntent {
  readonly act: ConsoleActName;
  readonly record: string;
  readonly arguments: readonly string[];
  /** In words, a line each. */
  readonly does: readonly string[];
}

/** What signing for an act needs of a data folder. */
export interface Console {
  readonly config: Config;
  readonly layout: Layout;
  readonly memory: TokenMemory;
  readonly nowMs: number;
  /** Whether signing is required whatever the configuration says, for no two persons have allowed what it says. */
  readonly isRequired?: boolean;
  /** The person that a certificate of an administrator is of. Throws `forbidden`, saying why it is of none. */
  readonly personOf: (certificate: Bytes) => Promise<string>;
}

/** An act that two persons have signed for; undefined where none have to. `done` is called once it is carried out. */
export interface Approved {
  readonly act: ConsoleAct;
  readonly done: () => Promise<void>;
}

/**
 * The approval of an act, by files with its signed plan. Throws `approval-needed` where none are given: the plan is in a file then;
 * `plan-changed`, `forbidden`, `bad-request` and `invalid-signed-request` where they do not allow it.
 */
export async function approvedAtConsole(
  console: Console,
  intent: ConsoleIntent,
  files: readonly string[],
  persons = personsWanted,
): Promise<Approved | undefined> {
  const { config, memory, nowMs, isRequired = false } = console;
  if (!isRequired && !wantedSignatures({ config }).includes(intent.act)) return undefined;
  if (files.length === 0) throw planWritten(console, intent);
  const signed = files.map(readSigned);
  const [first] = signed;
  if (signed.length !== persons || !first)
    throw new PkiError(
      'bad-request',
      `--approved-by: ${persons} files are required, each with the plan as one person signed it`,
    );
  if (!signed.every(({ content }) => equal(content, first.content)))
    throw new PkiError('bad-request', 'the files are of different plans');
  checkPlan(planIn(first.content), intent, nowMs);
  const signers = new Map<string, string>();
  for (const { certificate } of signed)
    signers.set(await console.personOf(certificate), hex(digest('sha256', certificate)));
  if (signers.size < persons)
    throw new PkiError('forbidden', 'one person has signed twice, and two persons have to');
  const planHash = hex(digest('sha256', first.content));
  const name = `plan:${planHash.slice(0, 32)}`;
  const isStanding = intent.act === 'backup';
  if (!isStanding && (await memory.recall(name)) > 0)
    throw new PkiError('forbidden', 'that plan has been carried out: ask for another');
  return {
    act: { act: intent.act, planHash, approvedBy: [...signers.values()], atMs: nowMs },
    done: async () => {
      if (!isStanding) await memory.remember(name, 1);
    },
  };
}

/** Writes the plan of an act to a file, and says what is to be done with it. */
function planWritten({ layout, nowMs }: Console, { act, ...intent }: ConsoleIntent): PkiError {
  const lastsMs = planMs[act] ?? planMs.other;
  const plan: Plan = {
    ...{ act, planId: crypto.randomUUID(), record: intent.record },
    ...{ arguments: [...intent.arguments], does: [...intent.does] },
    ...{ madeAt: new Date(nowMs).toISOString(), validUntil: new Date(nowMs + lastsMs).toISOString() },
  };
  mkdirSync(layout.plans, { recursive: true, mode: 0o700 });
  const file = join(layout.plans, `${act}-${plan.planId}.json`);
  createDurably(file, `${JSON.stringify(plan, null, 2)}\n`, 0o600);
  const sign = `openssl cms -sign -cades -binary -nodetach -nosmimecap -md sha256 -econtent_type ${planContentType} -in ${file} -signer CERTIFICATE.pem -inkey KEY.pem -outform DER -out PERSON.cms`;
  return new PkiError(
    'approval-needed',
    `two administrators sign for this. Its plan is in ${file}; each looks at it, and signs it: ${sign}\nThen run the command again with --approved-by ONE.cms OTHER.cms, until ${plan.validUntil}`,
  );
}

interface Signed {
  readonly content: Bytes;
  readonly certificate: Bytes;
}

/** The plan in a file as one person signed it, and that person's certificate. */
function readSigned(file: string): Signed {
  if (!existsSync(file)) throw new PkiError('bad-request', `there is no file ${file}`);
  const octets = readFileSync(file);
  if (octets.length > signedMax) throw new PkiError('bad-request', `${file} is too large for a signed plan`);
  const [, base64] =
    /-----BEGIN (?:CMS|PKCS7)-----([A-Za-z0-9+/=\s]+)-----END/.exec(octets.toString('latin1')) ?? [];
  const der = base64 === undefined ? octets : Buffer.from(base64, 'base64');
  const { content, signers, certificates } = readMessage(file, der);
  const [certificate, ...others] = certificates();
  if (!certificate || others.length > 0)
    throw new PkiError('bad-request', `${file}: holds no signer’s certificate, or more than that`);
  signers[0].verify(certificate);
  return { content, certificate };
}

/** Says of a file that is no signed plan how one is made. */
function readMessage(file: string, der: Bytes): SignedMessage {
  try {
    return readSignedMessage(der, planContentType);
  } catch (error) {
    if (!(error instanceof PkiError)) throw error;
    throw new PkiError(
      error.code,
      `${file}: ${error.message}; sign the plan with openssl cms -sign -cades -binary -nodetach -econtent_type ${planContentType}`,
      { cause: error },
    );
  }
}

function planIn(content: Bytes): Plan {
  try {
    return Value.Parse(Plan, JSON.parse(Buffer.from(content).toString('utf8')));
  } catch (error) {
    throw new PkiError('bad-request', 'what was signed is no plan', { cause: error });
  }
}

/** Refuses a plan that is not of this act, or that has ended. */
function checkPlan(plan: Plan, intent: ConsoleIntent, nowMs: number): void {
  const same = (name: 'act' | 'record' | 'arguments' | 'does'): boolean =>
    JSON.stringify(plan[name]) === JSON.stringify(intent[name]);
  const other = (['act', 'record', 'arguments', 'does'] as const).find((name) => !same(name));
  if (other !== undefined)
    throw new PkiError(
      'plan-changed',
      `${other}: is ${JSON.stringify(plan[other])} in the plan that was signed, and ${JSON.stringify(intent[other])} now: run the command without --approved-by, and have that plan signed`,
    );
  const [fromMs, untilMs] = [Date.parse(plan.madeAt), Date.parse(plan.validUntil)];
  // Whatever it says of itself, it lasts no longer than a plan of its kind.
  const lastsMs = planMs[intent.act] ?? planMs.other;
  if (!(fromMs <= nowMs && nowMs < untilMs && untilMs - fromMs <= lastsMs))
    throw new PkiError(
      'forbidden',
      `the plan was of ${plan.madeAt}, until ${plan.validUntil}: ask for another`,
    );
}

/** The console of a data folder whose record is open: persons are those of the record. */
export function consoleOf(node: Node, options: { readonly endedToo?: boolean } = {}): Console {
  const { config, layout, clock, caToken, clients } = node;
  const nowMs = clock.machine.wallMs();
  const bindingMs = durationMs(config.limits.clientBinding);
  const personOf = async (certificate: Bytes): Promise<string> => {
    const client = await clients.client(hex(digest('sha256', certificate)));
    const why = whyNoApprover(client, { nowMs, bindingMs, endedToo: options.endedToo === true });
    if (why !== undefined || !client) throw new PkiError('forbidden', `a signature does not count: ${why}`);
    return clientIdOf(client);
  };
  return { config, layout, memory: caToken.memory(), nowMs, personOf };
}

/** Files with a signed plan, and who counts. */
interface Signatures {
  readonly files: readonly string[];
  /** See `whyNoApprover`. */
  readonly endedToo?: boolean;
  /** How many sign, where two are not left. */
  readonly persons?: number;
}

/** Carries an act out that two persons have signed for, where it needs that; it is on record before. */
export async function actAtConsole<Outcome>(
  node: Node,
  intent: Omit<ConsoleIntent, 'record'>,
  { files, endedToo = false, persons }: Signatures,
  act: () => Promise<Outcome>,
): Promise<Outcome> {
  // Who edits the file could otherwise turn signing off.
  await refuseNotAllowed(node);
  const record = await incarnationOf(node.database);
  const approved = await approvedAtConsole(
    consoleOf(node, { endedToo }),
    { ...intent, record },
    files,
    persons,
  );
  if (approved) await recordConsoleAct(node.database, nodeActor(node.config), approved.act);
  const outcome = await act();
  await approved?.done();
  return outcome;
}

/** Notes an act in a file, where the record is none that it could be put on; the next start does that. */
export function noteConsoleAct({ consoleActs }: Layout, act: ConsoleAct): void {
  appendFileSync(consoleActs, `${JSON.stringify(act)}\n`, { mode: 0o600, flush: true });
}

/** Puts on record what was noted since the last start. */
export async function recordNotedActs(node: Node, logger: Logger): Promise<void> {
  const { consoleActs } = node.layout;
  if (!existsSync(consoleActs)) return;
  for (const line of readFileSync(consoleActs, 'utf8').split('\n').filter(Boolean)) {
    const act = JSON.parse(line) as ConsoleAct;
    await recordConsoleAct(node.database, nodeActor(node.config), act);
    logger.warn(
      { act: act.act, planHash: act.planHash, approvedBy: act.approvedBy },
      'an act at the console is on record',
    );
  }
  rmSync(consoleActs);
}
