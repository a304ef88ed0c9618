import { createReadStream, existsSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { linesOf } from '../../core/http/lines.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type BatchAnswer, type CaClient, mayBeRepeated } from './client.ts';

/** Octets that a line of a batch may have on its way through this command. */
const lineOctetsMax = 1_048_576;

export interface BatchReport {
  readonly issued: number;
  readonly refused: number;
  /** Lines that were issued by an earlier run. */
  readonly before: number;
  /** Lines that an earlier run was refused, and that are as they were. */
  readonly refusedBefore: number;
  /** Lines that have no answer yet. */
  readonly left: number;
  /** Some of those that are refused, with why. */
  readonly refusals: readonly Refusal[];
}

export interface Refusal {
  readonly idempotencyKey: string | null;
  readonly detail: string;
}

/** Refusals that are told; all are in the file of answers. */
const toldMax = 10;

/** What an earlier run was answered for a line; `digest` is that of the line, absent in answers of earlier versions. */
interface Earlier {
  readonly refusal: string | undefined;
  readonly digest: string | undefined;
}

/** An answer as it is kept, with the digest of the line that it answers. */
type KeptAnswer = BatchAnswer & { readonly line?: string };

/**
 * Sends a file of lines and appends the answers to another, until every line has one. Run again after it was
 * interrupted, or the service was, it goes on with what has none, and with lines that were refused and have been corrected since; `progress`
 * receives how far it is.
 */
export async function runBatch(options: {
  readonly client: CaClient;
  readonly file: string;
  readonly answers: string;
  readonly progress: (done: number, total: number) => void;
}): Promise<BatchReport> {
  const { client, file, answers, progress } = options;
  const earlier = answeredIn(answers);
  const lines = await linesOfBatch(file);
  const total = lines.size;
  const isDone = (key: string): boolean => isFinal(earlier.get(key), lines.get(key));
  const kept = [...lines.keys()].filter(isDone).map((key) => [key, earlier.get(key)?.refusal] as const);
  const refusals = kept.flatMap(([idempotencyKey, detail]): Refusal[] =>
    detail === undefined ? [] : [{ idempotencyKey, detail }],
  );
  const refusedBefore = refusals.length;
  const out = openSync(answers, 'a', 0o600);
  let [issued, refused, done] = [0, 0, kept.length];
  progress(done, total);
  for await (const octets of client.batch(unanswered(file, isDone))) {
    const answer = JSON.parse(octets.toString('utf8')) as BatchAnswer;
    // What could not be done just now has no answer yet.
    if (answer.problem && mayBeRepeated(answer.problem)) continue;
    const line = answer.idempotencyKey === null ? undefined : lines.get(answer.idempotencyKey);
    writeSync(out, `${JSON.stringify({ ...answer, line })}\n`);
    if (answer.issued) issued += 1;
    else {
      refused += 1;
      refusals.push({ idempotencyKey: answer.idempotencyKey, detail: answer.problem?.detail ?? '' });
    }
    done += 1;
    progress(done, total);
  }
  return {
    ...{ issued, refused, refusedBefore, before: kept.length - refusedBefore, left: total - done },
    refusals: refusals.slice(0, toldMax),
  };
}

/** Whether a line is not sent again: it was issued, or was refused and is as it was. */
const isFinal = (earlier: Earlier | undefined, digest: string | undefined): boolean =>
  earlier !== undefined &&
  (earlier.refusal === undefined || earlier.digest === undefined || earlier.digest === digest);

/** What each idempotency key was answered last. A last line that an interruption cut short is taken away. */
function answeredIn(file: string): Map<string, Earlier> {
  const answered = new Map<string, Earlier>();
  if (!existsSync(file)) return answered;
  const octets = readFileSync(file);
  const whole = octets.lastIndexOf(0x0a) + 1;
  truncateSync(file, whole);
  for (const text of octets.toString('utf8', 0, whole).split('\n')) {
    if (text === '') continue;
    const { idempotencyKey, problem, line } = JSON.parse(text) as KeptAnswer;
    if (idempotencyKey !== null)
      answered.set(idempotencyKey, { refusal: problem ? problem.detail : undefined, digest: line });
  }
  return answered;
}

/** Digests of the lines of a batch, by idempotency key. */
async function linesOfBatch(file: string): Promise<Map<string, string>> {
  const lines = new Map<string, string>();
  let number = 0;
  for await (const line of linesOf(createReadStream(file), lineOctetsMax)) {
    number += 1;
    const key = keyOf(line, number);
    if (lines.has(key))
      throw new PkiError('bad-request', `line ${number}: its idempotencyKey stands before it`);
    lines.set(key, hex(digest('sha256', line)).slice(0, 32));
  }
  return lines;
}

async function* unanswered(file: string, isDone: (key: string) => boolean): AsyncIterable<Buffer> {
  let number = 0;
  for await (const line of linesOf(createReadStream(file), lineOctetsMax)) {
    number += 1;
    if (!isDone(keyOf(line, number))) yield Buffer.concat([line, Buffer.from('\n')]);
  }
}

function keyOf(line: Buffer, number: number): string {
  let key: unknown;
  try {
    key = (JSON.parse(line.toString('utf8')) as { idempotencyKey?: unknown }).idempotencyKey;
  } catch (error) {
    throw new PkiError('bad-request', `line ${number} is not JSON`, { cause: error });
  }
  if (typeof key !== 'string') throw new PkiError('bad-request', `line ${number} has no idempotencyKey`);
  return key;
}
