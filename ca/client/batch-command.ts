import { createReadStream, existsSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { linesOf } from '../../core/http/lines.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type BatchAnswer, type CaClient, mayBeRepeated } from './client.ts';

/** Octets that a line of a batch may have on its way through this command. */
const lineOctetsMax = 1_048_576;

export interface BatchReport {
  readonly issued: number;
  readonly refused: number;
  /** Lines that were answered by an earlier run. */
  readonly before: number;
  /** Lines that have no answer yet. */
  readonly left: number;
}

/**
 * Sends a file of lines and appends the answers to another, until every line has one. Run again after it was
 * interrupted, or the service was, it goes on with what has none; `progress` receives how far it is.
 */
export async function runBatch(options: {
  readonly client: CaClient;
  readonly file: string;
  readonly answers: string;
  readonly progress: (done: number, total: number) => void;
}): Promise<BatchReport> {
  const { client, file, answers, progress } = options;
  const answered = answeredIn(answers);
  const before = answered.size;
  const keys = await keysIn(file);
  const total = keys.size;
  const out = openSync(answers, 'a', 0o600);
  let [issued, refused, done] = [0, 0, [...keys].filter((key) => answered.has(key)).length];
  progress(done, total);
  for await (const octets of client.batch(unanswered(file, answered))) {
    const answer = JSON.parse(octets.toString('utf8')) as BatchAnswer;
    // What could not be done just now has no answer yet.
    if (answer.problem && mayBeRepeated(answer.problem)) continue;
    writeSync(out, `${octets.toString('utf8')}\n`);
    if (answer.issued) issued += 1;
    else refused += 1;
    done += 1;
    progress(done, total);
  }
  return { issued, refused, before, left: total - done };
}

/** Idempotency keys that have a final answer. A last line that an interruption cut short is taken away. */
function answeredIn(file: string): Set<string> {
  const answered = new Set<string>();
  if (!existsSync(file)) return answered;
  const octets = readFileSync(file);
  const whole = octets.lastIndexOf(0x0a) + 1;
  truncateSync(file, whole);
  for (const line of octets.toString('utf8', 0, whole).split('\n')) {
    const key = line === '' ? null : (JSON.parse(line) as BatchAnswer).idempotencyKey;
    if (key !== null) answered.add(key);
  }
  return answered;
}

async function keysIn(file: string): Promise<Set<string>> {
  const keys = new Set<string>();
  let number = 0;
  for await (const line of linesOf(createReadStream(file), lineOctetsMax)) {
    number += 1;
    const key = keyOf(line, number);
    if (keys.has(key))
      throw new PkiError('bad-request', `line ${number}: its idempotencyKey stands before it`);
    keys.add(key);
  }
  return keys;
}

async function* unanswered(file: string, answered: ReadonlySet<string>): AsyncIterable<Buffer> {
  let number = 0;
  for await (const line of linesOf(createReadStream(file), lineOctetsMax)) {
    number += 1;
    if (!answered.has(keyOf(line, number))) yield Buffer.concat([line, Buffer.from('\n')]);
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
