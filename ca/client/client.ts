import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import type { Static } from 'typebox';
import { Agent, request } from 'undici';
import { linesOf } from '../../core/http/lines.ts';
import type * as schema from '../api/schema.ts';
import type { Problem as ProblemShape } from '../api/schema-problem.ts';

export type Issued = Static<typeof schema.Issued>;
export type Changed = Static<typeof schema.Changed>;
export type Challenge = Static<typeof schema.Challenge>;
export type BatchLine = Static<typeof schema.BatchLine>;
export type BatchAnswer = Static<typeof schema.BatchAnswer>;
export type Problem = Static<typeof ProblemShape>;

/** What the CA answered, as it came. */
export interface Answer<T = unknown> {
  readonly status: number;
  readonly type: string;
  /** The request had been answered before, and this is that answer. */
  readonly replayed: boolean;
  readonly body: T;
}

/** A refusal, with the CA's own words (RFC 9457). */
export class RefusedError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.name = 'RefusedError';
    this.problem = problem;
  }
}

/** Whether the same request, under the same key, may be answered otherwise later. */
export const mayBeRepeated = ({ status, title }: Problem): boolean =>
  status >= 500 || title === 'request-in-progress';

/**
 * A caller of the CA API: mutual TLS with a client certificate of the operations CA.
 *
 * Every write has an idempotency key: a request that is repeated under its key is carried out once. Without a key of the caller's one is drawn. The typed calls throw
 * `RefusedError`; `get`, `post` and `send` give every answer as it came.
 */
export class CaClient {
  readonly #agent: Agent;
  readonly #base: string;
  readonly #purpose: Readonly<Record<string, string>>;

  /** `key` and `cert` are the client's, `ca` the operations CA's certificate; all PEM. */
  constructor(options: {
    address: string;
    key: string;
    cert: string;
    ca: string;
    /** The name that the CA's certificate is for, where `address` has another. */
    serverName?: string;
    /** For which purpose it looks holders up. */
    purpose?: string;
  }) {
    const { key, cert, ca, serverName: servername, purpose } = options;
    this.#purpose = purpose === undefined ? {} : { 'warifu-purpose': purpose };
    // A batch lasts as long as its lines do: neither end gives up on a stream that moves.
    this.#agent = new Agent({
      connect: { key, cert, ca, ...(servername === undefined ? {} : { servername }) },
      headersTimeout: 60_000,
      bodyTimeout: 300_000,
    });
    this.#base = options.address;
  }

  /** The same with files of PEM. */
  static fromFiles(options: { address: string; key: string; cert: string; ca: string }): CaClient {
    const pem = (file: string): string => readFileSync(file, 'utf8');
    return new this({ ...options, key: pem(options.key), cert: pem(options.cert), ca: pem(options.ca) });
  }

  issueToCard(body: BatchLine['card'], idempotencyKey?: string): Promise<Issued> {
    return this.#expect(this.post<Issued>('/card-certificates', body, idempotencyKey));
  }

  challenge(idempotencyKey?: string): Promise<Challenge> {
    return this.#expect(this.post<Challenge>('/phone-challenges', undefined, idempotencyKey));
  }

  issueToPhone(body: Static<typeof schema.IssueToPhone>, idempotencyKey?: string): Promise<Issued> {
    return this.#expect(this.post<Issued>('/phone-certificates', body, idempotencyKey));
  }

  report(body: Static<typeof schema.ReportEvent>, idempotencyKey?: string): Promise<Changed> {
    return this.#expect(this.post<Changed>('/events', body, idempotencyKey));
  }

  /**
   * Issues to many cards over one connection. Lines are taken as fast as the CA signs, answers come as soon as each is
   * durable, in no order; what was sent and not answered may be sent again under its key.
   */
  async *issueToCards(lines: AsyncIterable<BatchLine> | Iterable<BatchLine>): AsyncIterable<BatchAnswer> {
    for await (const answer of this.batch(encoded(lines)))
      yield JSON.parse(answer.toString('utf8')) as BatchAnswer;
  }

  /** The same with lines as octets: NDJSON in, and each answer without its line feed. */
  async *batch(lines: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncIterable<Buffer> {
    const response = await request(`${this.#base}/v1/card-certificate-batches`, {
      dispatcher: this.#agent,
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: Readable.from(lines, { objectMode: false, highWaterMark: 65_536 }),
    });
    if (response.statusCode !== 200) throw new RefusedError((await response.body.json()) as Problem);
    yield* linesOf(response.body, Number.MAX_SAFE_INTEGER);
  }

  async get<T>(path: string): Promise<Answer<T>> {
    return this.send<T>('GET', path, undefined, {});
  }

  async post<T>(
    path: string,
    body: unknown,
    idempotencyKey: string = crypto.randomUUID(),
  ): Promise<Answer<T>> {
    const headers = {
      'idempotency-key': idempotencyKey,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    return this.send<T>('POST', path, body === undefined ? undefined : JSON.stringify(body), headers);
  }

  async send<T>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body: string | Buffer | undefined,
    headers: Record<string, string>,
  ): Promise<Answer<T>> {
    const response = await request(`${this.#base}/v1${path}`, {
      dispatcher: this.#agent,
      method,
      headers: { ...this.#purpose, ...headers },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.body.text();
    return {
      status: response.statusCode,
      type: String(response.headers['content-type']),
      replayed: response.headers['idempotency-replayed'] === 'true',
      body: (text !== '' && isJson(response.headers['content-type']) ? JSON.parse(text) : undefined) as T,
    };
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#agent.close();
  }

  async #expect<T>(answering: Promise<Answer<T>>): Promise<T> {
    const { status, body } = await answering;
    if (status >= 400) throw new RefusedError(body as Problem);
    return body;
  }
}

async function* encoded(lines: AsyncIterable<BatchLine> | Iterable<BatchLine>): AsyncIterable<Uint8Array> {
  for await (const line of lines) yield Buffer.from(`${JSON.stringify(line)}\n`);
}

const isJson = (type: unknown): boolean => /^application\/(problem\+)?json\b/.test(String(type));
