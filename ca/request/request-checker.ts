import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { traced } from '../../core/runtime/tracing.ts';
import { pack, unpack } from '../../core/workers/pack.ts';
import { messagesEach, PriorityBatchQueue } from '../../core/workers/priority-batch-queue.ts';
import { ThreadPool } from '../../core/workers/thread-pool.ts';
import type { ProvenKey } from './certification-request.ts';
import { keyChecks } from './key-checks/all.ts';
import type { CheckResult, CheckStart, CheckTask } from './request-check.ts';

/** Requests that may wait to be checked. */
const waitingMax = 4096;

interface Asked {
  readonly der: Bytes;
  readonly name: string;
}

/** Threads that check PKCS#10 requests and the keys in them. */
export class RequestChecker {
  readonly #pool: ThreadPool<CheckTask, CheckResult>;
  readonly #check: (asked: Asked) => Promise<ProvenKey>;

  constructor(options: CheckStart & { readonly threads: number }) {
    const { threads, debianBlocklists, primeModuli } = options;
    // Read here once too, so that a list that is none is said when the service starts, and not by threads that die.
    keyChecks({ debianBlocklists, primeModuli });
    this.#pool = new ThreadPool({
      filename: new URL('./request-check.ts', import.meta.url),
      threads,
      tasksPerThread: messagesEach,
      workerData: { debianBlocklists, primeModuli } satisfies CheckStart,
    });
    const lane = new PriorityBatchQueue(threads).open({
      rank: 0,
      waitingMax,
      what: 'requests are waiting to be checked',
      run: (asked: readonly Asked[]) => this.#run(asked),
    });
    this.#check = async (asked) => {
      const outcome = await lane.do(asked);
      if (outcome instanceof PkiError) throw outcome;
      return outcome;
    };
  }

  /** As `parseCertificationRequest` for holders' keys; also rejects with `overloaded`. */
  check(der: Bytes, name: string): Promise<ProvenKey> {
    return traced('check request', {}, () => this.#check({ der, name }));
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  async #run(asked: readonly Asked[]): Promise<(ProvenKey | PkiError)[]> {
    const requests = pack(asked.map(({ der }) => der));
    const task = { requests, names: asked.map(({ name }) => name) };
    const { verdicts, keys } = await this.#pool.run(task, { transferList: [requests.octets.buffer] });
    const parts = unpack(keys)[Symbol.iterator]();
    const next = (): Bytes => parts.next().value ?? new Uint8Array();
    return verdicts.map((verdict) =>
      'code' in verdict
        ? new PkiError(verdict.code, verdict.detail)
        : { type: verdict.type, keyHash: next(), publicKey: next() },
    );
  }
}
