import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';
import { ThreadPool } from '../../core/workers/thread-pool.ts';
import type { BuildOrder } from '../issue/build-order.ts';
import type { CrlTask, CrlTaskResult, WorkerAnswer, WorkerQuestion } from './crl-worker.ts';
import type { Relay } from './relay.ts';

/** Shards under way at once for each worker: while one waits for a signature or for the disk, another is encoded. */
const ordersPerWorker = 6;

/** One worker, with the port by which it asks: keys, and sessions with the token, stay on this side. */
interface Worker {
  readonly pool: ThreadPool<CrlTask, CrlTaskResult>;
  questions: MessagePort | undefined;
  opening: Promise<CrlTaskResult> | undefined;
  running: number;
}

/** The publisher's record, the published folder, and who publishes there. */
type Place = Omit<CrlTask & { type: 'open' }, 'type' | 'questions'>;

/** The threads that build CRLs. */
export class CrlWorkers {
  readonly #workers: readonly Worker[];
  readonly #place: Place;
  readonly #relay: Pick<Relay, 'put'> | null;
  readonly #signers = new Map<number, DigestSigner<'crl'>>();
  #orders = 0;

  constructor(options: {
    readonly threads: number;
    readonly place: Place;
    /** Hands what is published to other nodes; null where there are none. */
    readonly relay: Pick<Relay, 'put'> | null;
  }) {
    this.#place = options.place;
    this.#relay = options.relay;
    // A pool for each, because a worker keeps the port that it was given.
    this.#workers = Array.from({ length: options.threads }, () => ({
      pool: new ThreadPool<CrlTask, CrlTaskResult>({
        filename: new URL('./crl-worker.ts', import.meta.url),
        threads: 1,
        tasksPerThread: ordersPerWorker,
      }),
      questions: undefined,
      opening: undefined,
      running: 0,
    }));
  }

  /** Orders that can be under way. */
  get capacity(): number {
    return this.#workers.length * ordersPerWorker;
  }

  /** Has an order built by the worker that has the least to do; its CRLs are signed by `signer`. */
  async build(order: BuildOrder, signer: DigestSigner<'crl'>): Promise<CrlTaskResult> {
    const worker = this.#workers.reduce((least, each) => (each.running < least.running ? each : least));
    this.#orders += 1;
    const id = this.#orders;
    this.#signers.set(id, signer);
    worker.running += 1;
    try {
      const isHandedOver = this.#relay !== null;
      const task: CrlTask = { type: 'build', id, order, isHandedOver, form: signer.form };
      const result = await worker.pool.run(task);
      if (result.type !== 'unopened') return result;
      // It has just begun: at first, or in the place of one that died.
      await this.#open(worker);
      return await worker.pool.run(task);
    } finally {
      worker.running -= 1;
      this.#signers.delete(id);
    }
  }

  /** Ends the threads once what they have begun is done. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map(({ pool }) => pool.close()));
    for (const { questions } of this.#workers) questions?.close();
  }

  /** Sends a worker where everything is; once, for all orders that find that it does not know. */
  async #open(worker: Worker): Promise<void> {
    worker.opening ??= this.#tell(worker).finally(() => {
      worker.opening = undefined;
    });
    await worker.opening;
  }

  #tell(worker: Worker): Promise<CrlTaskResult> {
    const { port1, port2 } = new MessageChannel();
    worker.questions?.close();
    worker.questions = port1;
    port1.on('message', (question: WorkerQuestion) => void this.#answer(port1, question));
    port1.unref();
    return worker.pool.run({ type: 'open', ...this.#place, questions: port2 }, { transferList: [port2] });
  }

  async #answer(port: MessagePort, question: WorkerQuestion): Promise<void> {
    const { id } = question;
    let answer: WorkerAnswer;
    try {
      answer = { id, value: await this.#valueOf(question) };
    } catch (error) {
      answer = { id, failure: (error as Error).message };
    }
    port.postMessage(answer);
  }

  #valueOf(question: WorkerQuestion): Promise<Bytes | boolean> {
    const signer = this.#signers.get(question.order);
    invariant(signer, 'an order has a signer');
    if ('digest' in question) return signer.signDigest(question.digest);
    if ('toBeSigned' in question) return signer.sign(question.toBeSigned);
    invariant(this.#relay, 'there are other nodes');
    return this.#relay.put(question.change);
  }
}
