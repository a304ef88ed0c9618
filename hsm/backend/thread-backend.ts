import type { Gate, HealDepth, ModuleUser } from '../../core/crypto/signer.ts';
import { messagesEach } from '../../core/workers/priority-batch-queue.ts';
import { ThreadPool } from '../../core/workers/thread-pool.ts';
import type { SigningBackend, SigningResult, SigningTask } from '../pool/signing-task.ts';
import type { AskedOfThread } from './thread-messages.ts';

/**
 * Signing threads of a process that is logged in to its tokens. A call that never returns holds its thread for good:
 * its task ends as an error after `callTimeoutMs`, and the other threads go on.
 */
export class ThreadBackend implements SigningBackend, ModuleUser {
  readonly width: number;
  readonly #pool: ThreadPool<AskedOfThread, SigningResult>;
  readonly #gate: Gate;
  readonly #leave: () => void;
  readonly #callTimeoutMs: number;
  readonly #running = new Set<Promise<SigningResult>>();
  readonly #generation = { sessions: 0, module: 0 };
  #paused: PromiseWithResolvers<void> | undefined;

  constructor(options: { threads: number; gate: Gate; callTimeoutMs: number }) {
    this.width = options.threads;
    this.#gate = options.gate;
    this.#callTimeoutMs = options.callTimeoutMs;
    this.#leave = options.gate.join(this);
    this.#pool = new ThreadPool({
      filename: new URL('./signing-worker.ts', import.meta.url),
      threads: options.threads,
      tasksPerThread: messagesEach,
    });
  }

  async run(task: SigningTask): Promise<SigningResult> {
    // While tokens are healed threads are given nothing.
    while (this.#paused) await this.#paused.promise;
    // What is moved to a thread is gone here, and a failed task is signed again: a copy is moved.
    const octets = task.inputs.octets.slice();
    const asked = {
      task: { ...task, inputs: { ...task.inputs, octets } },
      generation: { ...this.#generation },
    };
    const running = this.#limited(this.#pool.run(asked, { transferList: [octets.buffer] }));
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  heal(): Promise<void> {
    return this.#gate.heal();
  }

  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await Promise.allSettled([...this.#running]);
  }

  resume(depth: HealDepth): void {
    this.#generation[depth] += 1;
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  /** Ends the threads once what they have begun is done, or is taken to be lost. */
  async close(): Promise<void> {
    this.#leave();
    await Promise.allSettled([...this.#running]);
    await this.#pool.destroy();
  }

  async #limited(running: Promise<SigningResult>): Promise<SigningResult> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<SigningResult>((resolve) => {
      const error = `no answer within ${this.#callTimeoutMs} ms`;
      timer = setTimeout(() => resolve({ ok: false, error }), this.#callTimeoutMs);
    });
    try {
      return await Promise.race([running, late]);
    } catch {
      return { ok: false, error: 'the signing thread died' };
    } finally {
      clearTimeout(timer);
    }
  }
}
