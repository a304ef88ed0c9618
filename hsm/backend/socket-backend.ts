import { createConnection, type Socket } from 'node:net';
import { BackOff } from '../../core/runtime/back-off.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { type ErrorCode, errorStatus, PkiError } from '../../core/runtime/errors.ts';
import { pack, unpack } from '../../core/workers/pack.ts';
import type { SigningBackend, SigningResult, SigningTask } from '../pool/signing-task.ts';
import { encodeFrame, type Frame, FrameReader } from './frames.ts';
import type { Answered, Question } from './signer-messages.ts';
import type { TokenPort } from './token-port.ts';

/** What is not the token’s fault, and how it is said to who asked for a signature. */
const refusals: Partial<Record<ErrorCode, ErrorCode>> = {
  ...{ forbidden: 'internal', 'too-large': 'internal', 'bad-request': 'internal' },
  'record-unavailable': 'record-unavailable',
};
/** Between attempts to reach the signer. */
const reconnect = { firstMs: 50, mostMs: 1000 };

interface Reply {
  readonly value: number | undefined;
  readonly parts: readonly Bytes[];
}

interface Waiting {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** What was asked over a connection that is gone. Its fate is unknown. */
class ConnectionLost extends PkiError {}

/**
 * A signer that is a process of its own, and may be another user's, at a Unix socket: it alone has the PIN of the CA's token, and signs what
 * it has checked itself. A connection that is lost is opened again, and what was asked over it is asked once more: all that is asked here
 * may be asked twice. What it refuses is refused with `forbidden`, and not asked again.
 */
export class SocketBackend implements SigningBackend {
  readonly width: number;
  readonly #path: string;
  readonly #callTimeoutMs: number;
  readonly #lost: (what: { readonly why: string }) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #backOff = new BackOff(reconnect);
  #socket: Socket | undefined;
  #up = Promise.withResolvers<void>();
  #retry: NodeJS.Timeout | undefined;
  #ids = 0;
  /** When anything was received last, monotonic milliseconds. */
  #heardMs = 0;
  #wasUp = true;
  #isClosed = false;
  /** How often the connection was lost. */
  restarts = 0;

  constructor(options: {
    readonly path: string;
    /** Requests that the signer works on at once. */
    readonly width: number;
    /** How long it may take to answer. */
    readonly callTimeoutMs: number;
    /** Called when the signer cannot be reached any more. */
    readonly lost: (what: { readonly why: string }) => void;
  }) {
    this.#path = options.path;
    this.width = options.width;
    this.#callTimeoutMs = options.callTimeoutMs;
    this.#lost = options.lost;
    this.#connect();
  }

  async run({ key, purpose, form, inputs }: SigningTask): Promise<SigningResult> {
    const { tokenLabel: token, keyLabel, suite } = key;
    if (purpose === 'ocsp') return { ok: false, error: 'a signer has no keys of responders' };
    try {
      const { parts } = await this.#ask(
        { type: 'sign', purpose, form, token, key: keyLabel, suite },
        unpack(inputs),
      );
      return { ok: true, signatures: pack(parts) };
    } catch (error) {
      const refusal = error instanceof PkiError ? refusals[error.code] : undefined;
      return { ok: false, error: (error as Error).message, ...(refusal ? { refusal } : {}) };
    }
  }

  async heal(): Promise<void> {
    await this.#ask({ type: 'heal' });
  }

  /** A token as the signer reaches it. */
  token(label: string): TokenPort {
    const one = async (question: Question, part?: Bytes): Promise<Bytes> => {
      const [octets] = (await this.#ask(question, part ? [part] : [])).parts;
      if (!octets) throw new PkiError('internal', 'the signer answered nothing');
      return Uint8Array.from(octets);
    };
    const of = { token: label };
    return {
      label,
      findKeyPair: async (key, suite) => ({
        label: key,
        publicKey: await one({ type: 'find-key', ...of, key, suite: suite.name }),
      }),
      keyWrapper: (key) => ({
        wrap: (context, secret) => one({ type: 'wrap', ...of, key, context }, secret),
        unwrap: (context, wrapped) => one({ type: 'unwrap', ...of, key, context }, wrapped),
      }),
      memory: () => ({
        recall: async (name) => (await this.#ask({ type: 'recall', ...of, name })).value ?? 0,
        remember: async (name, value) => {
          await this.#ask({ type: 'remember', ...of, name, value });
        },
      }),
    };
  }

  /** What is under way is waited for by who asked. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#up.resolve();
    const socket = this.#socket;
    if (!socket) return;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.destroy();
    await closed;
  }

  async #ask(question: Question, parts: readonly Bytes[] = []): Promise<Reply> {
    try {
      return await this.#askOnce(question, parts);
    } catch (error) {
      if (!(error instanceof ConnectionLost) || this.#isClosed) throw error;
      return this.#askOnce(question, parts);
    }
  }

  async #askOnce(question: Question, parts: readonly Bytes[]): Promise<Reply> {
    this.#ids += 1;
    const id = this.#ids;
    const frame = encodeFrame({ ...question, id }, parts);
    const socket = await this.#connected();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#settle(id, new PkiError('token-unavailable', 'the signer does not answer'));
        // What it has not taken would be kept for as long as it hangs, and is stale when it goes on.
        if (systemClock.monotonicMs() - this.#heardMs >= this.#callTimeoutMs) socket.destroy();
      }, this.#callTimeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      socket.write(frame);
    });
  }

  /** Waits for a connection as long as for an answer. */
  async #connected(): Promise<Socket> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#callTimeoutMs);
    });
    await Promise.race([this.#up.promise, late]);
    clearTimeout(timer);
    if (this.#socket && !this.#isClosed) return this.#socket;
    throw new PkiError(
      'token-unavailable',
      this.#isClosed
        ? 'the connection to the signer is closed'
        : `no signer answers at ${this.#path}: start one with warifu signer, as a user whose socket this one may write to`,
    );
  }

  #connect(): void {
    if (this.#isClosed) return;
    const socket = createConnection(this.#path);
    const reader = new FrameReader();
    socket.once('connect', () => {
      this.#socket = socket;
      this.#backOff.succeeded();
      this.#wasUp = true;
      this.#up.resolve();
    });
    socket.on('data', (chunk) => {
      this.#heardMs = systemClock.monotonicMs();
      try {
        for (const frame of reader.push(chunk)) this.#answered(frame);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    let why = 'it ended';
    socket.on('error', (error) => {
      why = error.message;
    });
    socket.once('close', () => this.#disconnected(socket, why));
  }

  #answered({ head, parts }: Frame): void {
    const answer = head as unknown as Answered;
    this.#settle(answer.id, answer.ok ? { value: answer.value, parts } : errorOf(answer));
  }

  #settle(id: number, outcome: Error | Reply): void {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (outcome instanceof Error) waiting.reject(outcome);
    else waiting.resolve(outcome);
  }

  #disconnected(socket: Socket, why: string): void {
    if (this.#socket === socket) {
      this.#socket = undefined;
      this.#up = Promise.withResolvers();
      this.restarts += 1;
    }
    for (const id of [...this.#waiting.keys()])
      this.#settle(id, new ConnectionLost('token-unavailable', 'the connection to the signer was lost'));
    if (this.#isClosed) return;
    if (this.#wasUp) this.#lost({ why: `the signer at ${this.#path} cannot be reached: ${why}` });
    this.#wasUp = false;
    this.#retry = setTimeout(() => this.#connect(), this.#backOff.failed());
  }
}

function errorOf({ code, detail }: Answered & { ok: false }): PkiError {
  return new PkiError(Object.hasOwn(errorStatus, code) ? (code as ErrorCode) : 'token-unavailable', detail);
}
