// A thread that asks the server for one that waits: see `BlockingReader`.
import { workerData } from 'node:worker_threads';
import type { Question } from './asking.ts';
import type { BlockingAnswer, BlockingStart } from './blocking.ts';
import { readerSettings, Session, serverOf, translate } from './session.ts';

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
