// A thread that asks the server for one that waits: see `BlockingReader`.
import { type MessagePort, workerData } from 'node:worker_threads';
import type { AnsweredRows, Question } from './asking.ts';
import { type PlainServer, serverOf } from './server.ts';
import { readerSettings, Session, translate } from './session.ts';

/** What this thread is started with. */
export interface BlockingStart {
  readonly server: PlainServer;
  readonly port: MessagePort;
  /** One 32-bit integer, which becomes 1 with each answer. */
  readonly answered: SharedArrayBuffer;
}

export type BlockingAnswer = { readonly rows: AnsweredRows } | { readonly failure: string };

const { server, port, answered } = workerData as BlockingStart;
const signal = new Int32Array(answered);
let session: Session | undefined;

async function ask({ text, values }: Question): Promise<BlockingAnswer> {
  try {
    if (!session || session.isLost)
      session = await Session.open(serverOf(server), { name: 'warifu verifying', settings: readerSettings });
    return { rows: (await session.query(text, values)).rows };
  } catch (error) {
    return { failure: (translate(error) as Error).message };
  }
}

port.on('message', async (question: Question) => {
  const answer = await ask(question);
  port.postMessage(answer);
  Atomics.store(signal, 0, 1);
  Atomics.notify(signal, 0);
});
port.on('close', () => void session?.close());
