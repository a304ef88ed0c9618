import { hash } from 'node:crypto';
import { Piscina } from 'piscina';
import { type Suite, suites } from '../core/algorithms.ts';
import type { Bytes } from '../core/bytes.ts';
import { PkiError } from '../core/errors.ts';
import type { DigestSigner, Gate, KeySpec, ModuleUser, SigningPurpose } from '../core/signer.ts';
import type { SigningResult, SigningTask } from './signing-worker.ts';
import type { TokenKey } from './token.ts';

/** Signatures that may wait for one key; beyond it callers hear `overloaded`. */
const waitingMax = 2048;
/** Signatures a worker is handed at once: enough to make the message cheap, few enough to share out evenly. */
const batchMax = 16;

interface Waiting {
  readonly digest: Bytes;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (signature: Bytes) => void;
  readonly reject: (error: unknown) => void;
}

/** Worker threads that sign with keys of tokens this process is logged in to. */
export class SigningPool implements ModuleUser {
  readonly #pool: Piscina<SigningTask, SigningResult>;
  readonly #module: string;
  readonly #threads: number;
  readonly #log: string | null;
  readonly #copyKeys: boolean | null;
  readonly #gate: Gate;
  readonly #leave: () => void;
  readonly #running = new Set<Promise<SigningResult>>();
  #generation = 0;
  #paused: PromiseWithResolvers<void> | undefined;

  constructor(options: {
    module: string;
    threads: number;
    gate: Gate;
    /** See `KeySpec.copyKey`. */
    copyKeys?: boolean | null;
    /** File that gets every digest before it is signed. */
    log?: string | null;
  }) {
    this.#module = options.module;
    this.#log = options.log ?? null;
    this.#copyKeys = options.copyKeys ?? null;
    this.#threads = options.threads;
    this.#gate = options.gate;
    this.#leave = options.gate.join(this);
    this.#pool = new Piscina({
      filename: new URL('./signing-worker.ts', import.meta.url).href,
      minThreads: options.threads,
      maxThreads: options.threads,
      atomics: 'disabled',
    });
  }

  /** A signer for one key, bound to one purpose. */
  signer<Purpose extends SigningPurpose>(options: {
    purpose: Purpose;
    suite: Suite;
    tokenLabel: string;
    key: TokenKey;
  }): DigestSigner<Purpose> {
    const { tokenLabel, key, suite } = options;
    const spec = this.keySpec(tokenLabel, key.label, suite);
    const sendOnce = (digests: readonly Bytes[]): Promise<SigningResult> => {
      const { packed, lengths } = pack(digests);
      return this.#dispatch({ key: spec, log: this.#log, purpose: options.purpose, packed, lengths });
    };
    const run = async (digests: readonly Bytes[]): Promise<Bytes[]> => {
      let result = await sendOnce(digests);
      if (!result.ok) {
        // A worker that opened a new session and still failed: the process's login is lost, or the token is.
        await this.#gate.heal();
        result = await sendOnce(digests);
      }
      if (!result.ok)
        throw new PkiError('token-unavailable', `signing with key ${key.label}: ${result.error}`);
      return unpack(result.packed, result.lengths);
    };
    const queue = new SigningQueue(run, this.#threads);
    return {
      purpose: options.purpose,
      suite: suites[suite.name],
      publicKey: key.publicKey,
      sign: (message, signal) => queue.sign(hash(suite.hash, message, 'buffer'), signal),
      signDigest: (digest, signal) => queue.sign(digest, signal),
    };
  }

  /** What a thread of its own needs to sign with a key. */
  keySpec(tokenLabel: string, keyLabel: string, suite: Suite): KeySpec {
    return { module: this.#module, tokenLabel, keyLabel, suite: suite.name, copyKey: this.#copyKeys };
  }

  /** The gate of the module it signs with. */
  get gate(): Gate {
    return this.#gate;
  }

  async pause(): Promise<void> {
    this.#paused ??= Promise.withResolvers();
    await Promise.allSettled([...this.#running]);
  }

  resume(): void {
    this.#generation += 1;
    this.#paused?.resolve();
    this.#paused = undefined;
  }

  async #dispatch(asked: Omit<SigningTask, 'generation'>): Promise<SigningResult> {
    // While tokens are healed workers are given nothing.
    while (this.#paused) await this.#paused.promise;
    const task = { ...asked, generation: this.#generation };
    const running = this.#pool.run(task, { transferList: [task.packed.buffer] });
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  /** Ends the threads once what they have begun is done. */
  async close(): Promise<void> {
    this.#leave();
    await this.#pool.close();
  }
}

/** Gathers what is asked while workers are busy, so that each message to a worker carries several signatures. */
class SigningQueue {
  readonly #run: (digests: readonly Bytes[]) => Promise<Bytes[]>;
  readonly #threads: number;
  readonly #waiting: Waiting[] = [];
  #busy = 0;

  constructor(run: (digests: readonly Bytes[]) => Promise<Bytes[]>, threads: number) {
    this.#run = run;
    this.#threads = threads;
  }

  sign(digest: Bytes, signal?: AbortSignal): Promise<Bytes> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#waiting.length >= waitingMax) {
      return Promise.reject(new PkiError('overloaded', 'too many signatures are waiting for the token'));
    }
    const result = new Promise<Bytes>((resolve, reject) => {
      this.#waiting.push({ digest, signal, resolve, reject });
    });
    setImmediate(() => this.#dispatch());
    return result;
  }

  #dispatch(): void {
    while (this.#busy < this.#threads && this.#waiting.length > 0) {
      // Shared out evenly: two that wait go to two threads.
      const share = Math.ceil(this.#waiting.length / (this.#threads - this.#busy));
      const batch = this.#waiting.splice(0, Math.min(batchMax, share));
      const wanted = batch.filter(({ signal, reject }) => {
        if (signal?.aborted) reject(signal.reason);
        return !signal?.aborted;
      });
      if (wanted.length > 0) void this.#send(wanted);
    }
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    this.#busy++;
    try {
      const signatures = await this.#run(batch.map(({ digest }) => digest));
      for (const [i, { resolve, reject }] of batch.entries()) {
        const signature = signatures[i];
        if (signature) resolve(signature);
        else reject(new PkiError('internal', 'a signature is missing from a batch'));
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    } finally {
      this.#busy--;
      this.#dispatch();
    }
  }
}

function pack(parts: readonly Bytes[]): { packed: Uint8Array<ArrayBuffer>; lengths: number[] } {
  const packed = new Uint8Array(parts.reduce((total, { length }) => total + length, 0));
  let at = 0;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  return { packed, lengths: parts.map(({ length }) => length) };
}

function unpack(packed: Uint8Array, lengths: readonly number[]): Bytes[] {
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return packed.subarray(at - length, at);
  });
}
