import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';
import { type Operations, type Problem, places } from './operations.ts';

// A client of the CA API: every operation by its name in the OpenAPI document. What had no answer is sent again under the same
// Idempotency-Key, so that it is carried out once however often that is.

export type { Operations, Problem } from './operations.ts';

export type OperationName = keyof Operations;
export type InputOf<Name extends OperationName> = Operations[Name]['input'];
export type AnswerOf<Name extends OperationName> = Operations[Name]['answer'];

export interface ClientOptions {
  /** Address of the API, up to and without `/v1`. */
  readonly address: string;
  /** The client's key and certificate, and the operations CA, PEM. */
  readonly key: string | Buffer;
  readonly cert: string | Buffer;
  readonly ca: string | Buffer;
  /** Name in the server's certificate, where the address is another. */
  readonly serverName?: string;
  /** Connections at once; 16 by default. */
  readonly connections?: number;
  /** How often something is sent at most before its failure is the caller's: 6 by default. */
  readonly attempts?: number;
  /** How long one attempt may take, milliseconds: 30,000 by default. */
  readonly timeoutMs?: number;
}

export interface CallOptions {
  /** The same for the same request, also by another process: one of the caller's own, where it keeps what it has sent. */
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
}

/** The API said no, for a reason that does not go away by itself. */
export class RefusedError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.status} ${problem.title}: ${problem.detail}`);
    this.name = 'RefusedError';
    this.problem = problem;
  }
}

/** No answer was had, however often it was asked for: whether a write was carried out is not known; send it again with `idempotencyKey`. */
export class NoAnswerError extends Error {
  readonly idempotencyKey: string | undefined;

  constructor(reason: string, idempotencyKey: string | undefined, cause: unknown) {
    super(`no answer: ${reason}`, { cause });
    this.name = 'NoAnswerError';
    this.idempotencyKey = idempotencyKey;
  }
}

const [firstPauseMs, mostPauseMs] = [200, 10_000];
/** Octets of an answer that are read. */
const answerOctetsMax = 256 * 2 ** 20;

/** Refusals that go away: too much at once, or the same request being worked on. */
const isPassing = ({ status, title }: Problem): boolean =>
  status === 503 || status === 429 || title === 'request-in-progress';

interface Received {
  readonly status: number;
  readonly type: string;
  readonly retryAfterMs: number;
  readonly text: string;
}

export class WarifuClient {
  readonly #options: ClientOptions;
  readonly #agent: Agent;

  constructor(options: ClientOptions) {
    const { key, cert, ca, serverName, connections = 16 } = options;
    this.#options = options;
    this.#agent = new Agent({
      ...{ key, cert, ca, keepAlive: true, maxSockets: connections },
      ...(serverName === undefined ? {} : { servername: serverName }),
    });
  }

  /**
   * Carries an operation out. Resolves with the status and body of its answer, which after a repetition is the first one's. Rejects with
   * `RefusedError`, or with `NoAnswerError` where every attempt failed.
   */
  async call<Name extends OperationName>(
    name: Name,
    input: InputOf<Name>,
    { idempotencyKey, signal }: CallOptions = {},
  ): Promise<AnswerOf<Name>> {
    const { method, path, isOnce } = places[name];
    const given = input as Partial<Record<'path' | 'query' | 'headers', Record<string, unknown>>> & {
      body?: unknown;
    };
    const body = given.body === undefined ? undefined : JSON.stringify(given.body);
    const key = isOnce ? (idempotencyKey ?? randomUUID()) : undefined;
    const headers = {
      ...Object.fromEntries(Object.entries(given.headers ?? {}).map(([of, value]) => [of, String(value)])),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    };
    const url = `${this.#options.address}${placed(path, given.path)}${asked(given.query)}`;
    // What is no read and has no key may have been carried out, and is not sent twice.
    const attempts = method === 'GET' || isOnce ? (this.#options.attempts ?? 6) : 1;
    for (let attempt = 1; ; attempt++) {
      const failed = (reason: string, cause?: unknown) => new NoAnswerError(reason, key, cause);
      const received = await this.#send({ url, method, headers, body, signal }).catch((error: Error) => {
        if (signal?.aborted || attempt >= attempts) throw failed(error.message, error);
        return undefined;
      });
      if (received && received.status < 300)
        return {
          status: received.status,
          body: received.text === '' ? undefined : JSON.parse(received.text),
        } as AnswerOf<Name>;
      const problem = received && problemIn(received);
      if (problem && !isPassing(problem)) throw new RefusedError(problem);
      if (problem && attempt >= attempts)
        throw failed(`${problem.status} ${problem.title}: ${problem.detail}`);
      const backOffMs = Math.min(firstPauseMs * 2 ** (attempt - 1), mostPauseMs) * (0.5 + Math.random());
      await pause(Math.max(backOffMs, received?.retryAfterMs ?? 0), undefined, signal ? { signal } : {});
    }
  }

  /** Ends its connections; what is under way fails. */
  close(): void {
    this.#agent.destroy();
  }

  #send(of: {
    readonly url: string;
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string | undefined;
    readonly signal: AbortSignal | undefined;
  }): Promise<Received> {
    const { url, method, headers, body, signal } = of;
    const { timeoutMs = 30_000 } = this.#options;
    return new Promise((resolve, reject) => {
      const outgoing = request(
        url,
        { ...{ method, headers, agent: this.#agent, timeout: timeoutMs }, ...(signal ? { signal } : {}) },
        (incoming) => {
          const chunks: Buffer[] = [];
          let length = 0;
          incoming.on('data', (chunk: Buffer) => {
            length += chunk.length;
            if (length > answerOctetsMax) incoming.destroy(new Error('the answer is too long'));
            else chunks.push(chunk);
          });
          incoming.on('error', reject);
          incoming.on('end', () =>
            resolve({
              status: incoming.statusCode ?? 0,
              type: String(incoming.headers['content-type'] ?? ''),
              retryAfterMs: Math.min(Number(incoming.headers['retry-after'] ?? 0) || 0, 60) * 1000,
              text: Buffer.concat(chunks).toString('utf8'),
            }),
          );
        },
      );
      outgoing.on('timeout', () => outgoing.destroy(new Error(`nothing came for ${timeoutMs} ms`)));
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }
}

/** The problem in a refusal; of a proxy in between, one that says so. */
function problemIn({ status, type, text }: Received): Problem {
  if (type.startsWith('application/problem+json')) return JSON.parse(text) as Problem;
  return {
    type: 'about:blank',
    title: 'not-an-answer-of-the-api',
    status,
    detail: text.slice(0, 200),
    instance: '',
  };
}

const placed = (path: string, values: Readonly<Record<string, unknown>> = {}): string =>
  path.replace(/\{([A-Za-z]+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined || value === '') throw new TypeError(`path.${name} is missing`);
    return encodeURIComponent(String(value));
  });

function asked(values: Readonly<Record<string, unknown>> = {}): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  const text = new URLSearchParams(
    given.map(([name, value]): [string, string] => [name, String(value)]),
  ).toString();
  return text === '' ? '' : `?${text}`;
}
