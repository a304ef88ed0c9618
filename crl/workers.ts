import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { DigestSigner } from '../core/signer.ts';
import type { BuildOrder } from './build.ts';
import type { CrlTask, CrlTaskResult, SigningAnswer, SigningQuestion } from './crl-worker.ts';

/** Shards under way at once for each worker: while one waits for a signature or for the disk, another is encoded. */
const ordersPerWorker = 4;

/** One worker, with the port by which it has digests signed: keys, and sessions with the token, stay on this side. */
interface Worker {
  readonly pool: Piscina<CrlTask, CrlTaskResult>;
  readonly signing: MessagePort;
  /** What it has not been told yet. */
  opening: CrlTask | undefined;
  running: number;
}

/** The threads that build CRLs. */
export class CrlWorkers {
  readonly #workers: readonly Worker[];
  readonly #signers = new Map<number, DigestSigner<'crl'>>();
  #orders = 0;

  constructor(options: {
    readonly threads: number;
    /** The publisher's record, the published folder, and who publishes there. */
    readonly place: {
      readonly entries: string;
      readonly folder: string;
      readonly owner: string;
      readonly leaseMs: number;
    };
  }) {
    // A pool for each, because a worker keeps the port that came with its first task.
    this.#workers = Array.from({ length: options.threads }, () => {
      const { port1, port2 } = new MessageChannel();
      port1.on('message', (question: SigningQuestion) => void this.#sign(port1, question));
      port1.unref();
      const pool = new Piscina<CrlTask, CrlTaskResult>({
        filename: new URL('./crl-worker.ts', import.meta.url).href,
        minThreads: 1,
        maxThreads: 1,
        concurrentTasksPerWorker: ordersPerWorker,
        atomics: 'disabled',
      });
      return {
        pool,
        signing: port1,
        opening: { type: 'open', ...options.place, signing: port2 },
        running: 0,
      };
    });
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
      await this.#open(worker);
      return await worker.pool.run({ type: 'build', id, order });
    } finally {
      worker.running -= 1;
      this.#signers.delete(id);
    }
  }

  /** Ends the threads once what they have begun is done. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map(({ pool }) => pool.close()));
    for (const { signing } of this.#workers) signing.close();
  }

  async #open(worker: Worker): Promise<void> {
    const { opening } = worker;
    worker.opening = undefined;
    if (opening?.type === 'open') await worker.pool.run(opening, { transferList: [opening.signing] });
  }

  async #sign(port: MessagePort, { order, id, digest }: SigningQuestion): Promise<void> {
    let answer: SigningAnswer;
    try {
      const signer = this.#signers.get(order);
      if (!signer) throw new Error('an order that nobody gave');
      answer = { id, signature: await signer.signDigest(digest) };
    } catch (error) {
      answer = { id, failure: (error as Error).message };
    }
    port.postMessage(answer);
  }
}
