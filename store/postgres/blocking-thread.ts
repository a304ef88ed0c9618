// A thread that asks the server for one that waits: see `BlockingReader`.
import { type MessagePort, workerData } from 'node:worker_threads';
import type { AnsweredRows, Question } from './asking.ts';
import { type PlainServer, serverOf } from './server.ts';
import { readerSettings, Session, translate } from './session.ts';

/** What this thread is started with. */
export interface BlockingStart {
  readonly server: PlainServer;
  readonly port: MessagePort;
  /** One 32-bit integer, which grows with each answer. */
  readonly answered: SharedArrayBuffer;
}

export type NumberedQuestion = Question & { readonly id: number };
export type BlockingAnswer = { readonly id: number } & (
  | { readonly rows: AnsweredRows }
  | { readonly failure: string }
);

const { server, port, answered } = workerData as BlockingStart;
const signal = new Int32Array(answered);
let session: Session | undefined;
let isWithin = false;
let asking: Promise<void> = Promise.resolve();

async function ask({ text, values }: Question): Promise<AnsweredRows> {
  if (!session || session.isLost) {
    // Another connection would see another state of the record.
    if (isWithin && text !== 'ROLLBACK') throw new Error('the connection to the database was lost');
    session = await Session.open(serverOf(server), { name: 'warifu verifying', settings: readerSettings });
  }
  const { rows } = await session.query(text, values);
  return rows;
}

async function answer({ id, ...question }: NumberedQuestion): Promise<void> {
  let given: BlockingAnswer;
  try {
    given = { id, rows: await ask(question) };
  } catch (error) {
    given = { id, failure: (translate(error) as Error).message };
  }
  if (question.text.startsWith('BEGIN')) isWithin = 'rows' in given;
  if (question.text === 'ROLLBACK') isWithin = false;
  port.postMessage(given);
  Atomics.add(signal, 0, 1);
  Atomics.notify(signal, 0);
}

port.on('message', (question: NumberedQuestion) => {
  asking = asking.then(() => answer(question));
});
port.on('close', () => void session?.close());
