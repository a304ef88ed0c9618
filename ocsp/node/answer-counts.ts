import type { Answer } from '../protocol/prepared-answer.ts';
import { errors } from '../sign/sign.ts';

// What each listening thread has answered, in memory that the main thread reads: a 64-bit float for each kind, thread after thread.

export const answerKinds = ['successful', ...(Object.keys(errors) as (keyof typeof errors)[])] as const;
export type AnswerKind = (typeof answerKinds)[number];

const byError = new Map<Answer, number>(
  Object.entries(errors).map(([kind, answer]) => [answer, answerKinds.indexOf(kind as AnswerKind)]),
);
/** Behind the kinds: answers that were signed before, and given again. */
const keptAt = answerKinds.length;
const fields = answerKinds.length + 1;

/** Room for threads that are numbered from 0, or from 1. */
export const roomForCounts = (threads: number): SharedArrayBuffer =>
  new SharedArrayBuffer(8 * fields * (threads + 1));

/** One thread's: counts what it has answered, and what of that it had kept. */
export function countsOf(
  counts: SharedArrayBuffer,
  thread: number,
): { answered(answer: Answer): void; kept(): void } {
  const own = new Float64Array(counts, 8 * fields * thread, fields);
  const count = (at: number): void => {
    own[at] = (own[at] ?? 0) + 1;
  };
  return { answered: (answer) => count(byError.get(answer) ?? 0), kept: () => count(keptAt) };
}

export interface AnswerCounts {
  readonly byKind: ReadonlyMap<AnswerKind, number>;
  readonly kept: number;
}

/** Those of all threads. */
export function sumOfCounts(counts: SharedArrayBuffer): AnswerCounts {
  const all = new Float64Array(counts);
  const sums = new Float64Array(fields);
  for (const [i, value] of all.entries()) sums[i % fields] = (sums[i % fields] ?? 0) + value;
  return { byKind: new Map(answerKinds.map((kind, i) => [kind, sums[i] ?? 0])), kept: sums[keptAt] ?? 0 };
}
