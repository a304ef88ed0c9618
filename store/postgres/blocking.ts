import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader } from '../engine/record.ts';
import { type AnsweredRows, AskingRows, type Question } from './asking.ts';
import type { BlockingAnswer, BlockingStart, NumberedQuestion } from './blocking-thread.ts';
import { definitionFault, definitionQuestions } from './ddl.ts';
import type { PlainServer } from './server.ts';

/** How long an answer may take. */
const answerMs = 30_000;

/**
 * Reads for a thread that has nothing else to do than to wait: each question stands still until it is answered, so that a body runs once, and may
 * keep what it has read. Throws `record-unavailable` where the server does not answer.
 */
export class BlockingReader {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #answered = new Int32Array(new SharedArrayBuffer(4));
  readonly #reader: RecordReader;
  #asked = 0;
  #isDead = false;

  /** `before` is called before each question, and may throw. */
  constructor(server: PlainServer, before: () => void = () => undefined) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const start: BlockingStart = {
      server,
      port: port2,
      answered: this.#answered.buffer as SharedArrayBuffer,
    };
    this.#worker = new Worker(new URL('./blocking-thread.ts', import.meta.url), {
      workerData: start,
      transferList: [port2],
    });
    this.#worker.unref();
    // What goes wrong there is the answer that does not come.
    this.#worker.on('error', () => undefined);
    this.#reader = new AskingRows((question) => {
      before();
      return this.#ask(question);
    });
  }

  /** Runs a body, once, on one state of what is committed. */
  readOnce<R>(body: (reader: RecordReader) => R): R {
    this.#ask({ text: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', values: [] });
    try {
      return body(this.#reader);
    } finally {
      this.#ask({ text: 'ROLLBACK', values: [] });
    }
  }

  /** What is wrong with the definitions of tables; undefined where nothing is. */
  damage(): string | undefined {
    return definitionFault(definitionQuestions.map((text) => this.#ask({ text, values: [] })));
  }

  async integrity(): Promise<string | undefined> {
    return this.damage();
  }

  close(): void {
    this.#port.close();
    void this.#worker.terminate();
  }

  #ask(question: Question): AnsweredRows {
    if (this.#isDead) throw unanswered();
    this.#asked += 1;
    const before = Atomics.load(this.#answered, 0);
    this.#port.postMessage({ ...question, id: this.#asked } satisfies NumberedQuestion);
    Atomics.wait(this.#answered, 0, before, answerMs);
    const answer = receiveMessageOnPort(this.#port)?.message as BlockingAnswer | undefined;
    if (answer?.id !== this.#asked) {
      // What comes later would be the answer to another question.
      this.#isDead = true;
      throw unanswered();
    }
    if ('failure' in answer) throw new PkiError('record-unavailable', answer.failure);
    return answer.rows;
  }
}

const unanswered = (): PkiError =>
  new PkiError('record-unavailable', `the database did not answer within ${answerMs / 1000} s`);
