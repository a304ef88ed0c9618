import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Agent, type Dispatcher, request } from 'undici';
import { linesOf } from '../http/lines.ts';
import type { Publication, Published } from '../model/publication.ts';
import type { TlsPair } from '../node/client-leaf.ts';
import { BackOff } from '../runtime/back-off.ts';
import type { Bytes } from '../runtime/bytes.ts';
import { PkiError } from '../runtime/errors.ts';
import { Confirmations } from './confirmations.ts';
import type { FeedBatch, FeedCursor, FeedFollower, StatusFeed } from './feed.ts';

/** What a remote feed reports: nothing to a caller, for it goes on by itself; to an operator, to act on. */
export interface FeedAlarm {
  /** The connection failed or ended; it is made again. */
  interrupted(reason: string): void;
  /** The record is another than the one followed so far: following has stopped until an operator reconciles. */
  foreign(reason: string): void;
}

/** A publication as the CA's API has it: octets in base64. */
type EncodedPublication = Pick<Publication, 'path' | 'number' | 'described'> & {
  readonly complete: string;
  readonly base: string | null;
  readonly delta: string | null;
};

/** Between two attempts, milliseconds; doubles with each failure and is spread by chance. */
const attempts = { firstMs: 200, mostMs: 5000 };
/** Heartbeats come every second: a connection this silent is dead. */
const silenceMs = 10_000;

/** The CA's status feed over HTTP with mutual TLS (role `follower`). Reconnects from its last cursor, for ever. */
export class RemoteFeed implements StatusFeed, Published {
  readonly #url: string;
  #agent: Agent;
  readonly #alarm: FeedAlarm;
  readonly #ca: string;
  readonly #answersForMs: number | undefined;
  /** What the CA knows this process by. */
  readonly #key = randomUUID();

  constructor(options: {
    /** Address of the CA API, up to and without `/v1`. */
    readonly url: string;
    readonly tls: { readonly key: string; readonly cert: string; readonly ca: string };
    readonly alarm: FeedAlarm;
    /** How long the follower answers by what it has applied, where revocations are to wait until it has: milliseconds. */
    readonly answersForMs?: number;
  }) {
    this.#url = options.url;
    this.#answersForMs = options.answersForMs;
    this.#ca = options.tls.ca;
    this.#agent = this.#agentOf(options.tls);
    this.#alarm = options.alarm;
  }

  /** Resolves when the follower has caught up for the first time, which takes as long as the CA is out of reach. */
  async follow(follower: FeedFollower, cursor: FeedCursor | undefined, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const caughtUp = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => caughtUp.resolve(), { once: true });
    void this.#run(follower, cursor, signal, caughtUp);
    await caughtUp.promise;
  }

  async epochKey(authority: string, epoch: number): Promise<Bytes> {
    const { key } = await this.#get<{ key: string }>(`/v1/feed/epochs/${authority}/${epoch}`);
    return Buffer.from(key, 'base64');
  }

  /**
   * Writes the CA's snapshot of its index to a file, which is not believed before its checksum was compared. False where the CA has none;
   * `record-unavailable` where it cannot be had now.
   */
  async snapshot(file: string, signal: AbortSignal): Promise<boolean> {
    const response = await request(`${this.#url}/v1/feed/snapshot`, { dispatcher: this.#agent, signal });
    if (response.statusCode === 200) {
      await pipeline(response.body, createWriteStream(file, { mode: 0o600 }), { signal });
      return true;
    }
    const { detail = '', type } = await problemIn(response.body);
    // Also a CA of an earlier version, which has no such route.
    if (type === 'urn:warifu:problem:not-found') return false;
    throw new PkiError('record-unavailable', `the CA gave no snapshot: ${response.statusCode} ${detail}`);
  }

  /** What the CA publishes: CRLs with a greater number than one, and all of one shard. See `Published`. */
  async above(number: number): Promise<readonly Pick<Publication, 'path' | 'number'>[]> {
    const { crls } = await this.#get<{ crls: { path: string; number: number }[] }>(
      `/v1/feed/crls?above=${number}`,
    );
    return crls;
  }

  async get(path: string): Promise<Publication | undefined> {
    const { crl } = await this.#get<{ crl: EncodedPublication | null }>(
      `/v1/feed/crl?path=${encodeURIComponent(path)}`,
    );
    if (!crl) return undefined;
    const octetsOf = (text: string | null): Bytes | null =>
      text === null ? null : Buffer.from(text, 'base64');
    return {
      ...{ path: crl.path, number: crl.number, described: crl.described },
      ...{
        complete: Buffer.from(crl.complete, 'base64'),
        base: octetsOf(crl.base),
        delta: octetsOf(crl.delta),
      },
    };
  }

  /** Has a key certified as an authority's OCSP responder (role `ocsp`). `request` is PKCS#10; returns the certificate, DER. */
  async certify(authority: string, certificationRequest: Bytes, idempotencyKey: string): Promise<Bytes> {
    const { certificates } = await this.#post<{ certificates?: { certificate: string }[] }>(
      '/v1/responder-certificates',
      { authority, request: Buffer.from(certificationRequest).toString('base64') },
      idempotencyKey,
    );
    const pem = certificates?.[0]?.certificate;
    if (pem === undefined)
      throw new PkiError('record-unavailable', `the CA gave no responder certificate of ${authority}`);
    return Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  }

  /** Renews the client certificate that this connection shows; PEM. The request is PKCS#10. */
  async renewClient(certificationRequest: Bytes, idempotencyKey: string): Promise<string> {
    const { certificate } = await this.#post<{ certificate?: string }>(
      '/v1/client-certificates',
      { request: Buffer.from(certificationRequest).toString('base64') },
      idempotencyKey,
    );
    if (certificate === undefined) throw new PkiError('record-unavailable', 'the CA gave no certificate');
    return certificate;
  }

  /** Shows another client certificate from now on: connections are made again, the feed goes on from where it was. */
  async use(tls: TlsPair): Promise<void> {
    const before = this.#agent;
    this.#agent = this.#agentOf(tls);
    await before.destroy();
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  #agentOf({ key, cert }: TlsPair): Agent {
    return new Agent({
      connect: { key, cert, ca: this.#ca },
      bodyTimeout: silenceMs,
      headersTimeout: silenceMs,
    });
  }

  /** Asks for something. `record-unavailable` with what the CA says otherwise. */
  async #get<Body>(path: string): Promise<Body> {
    const response = await request(`${this.#url}${path}`, { dispatcher: this.#agent });
    const octets: Buffer[] = [];
    let length = 0;
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > answerOctetsMax)
        throw new PkiError('record-unavailable', 'the CA answers more than a node can take');
      octets.push(chunk);
    }
    const answer = JSON.parse(Buffer.concat(octets).toString('utf8')) as Body & { detail?: string };
    if (response.statusCode === 200) return answer;
    throw new PkiError(
      'record-unavailable',
      `the CA refused ${path} with ${response.statusCode}: ${answer.detail}`,
    );
  }

  /** Has something made (201). `record-unavailable` with what the CA says otherwise. */
  async #post<Body>(path: string, body: object, idempotencyKey: string): Promise<Body> {
    const response = await request(`${this.#url}${path}`, {
      dispatcher: this.#agent,
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      body: JSON.stringify(body),
    });
    const answer = (await response.body.json()) as Body & { detail?: string };
    if (response.statusCode === 201) return answer;
    throw new PkiError('record-unavailable', `the CA refused with ${response.statusCode}: ${answer.detail}`);
  }

  async #run(
    follower: FeedFollower,
    from: FeedCursor | undefined,
    signal: AbortSignal,
    caughtUp: PromiseWithResolvers<void>,
  ): Promise<void> {
    let cursor = from;
    const backOff = new BackOff(attempts);
    while (!signal.aborted) {
      try {
        // Ends with the connection, so that nothing goes on to say what is not heard.
        using ended = new DisposableStack();
        const connection = new AbortController();
        ended.defer(() => connection.abort());
        const confirmations = this.#confirmations(cursor, AbortSignal.any([signal, connection.signal]));
        for await (const batch of this.#connect(cursor, signal, confirmations)) {
          await follower.apply(batch);
          cursor = batch.cursor;
          if (batch.events.length > 0) confirmations?.applied(batch.cursor.positions);
          backOff.succeeded();
          if (batch.watermarkMs > 0) caughtUp.resolve();
        }
        this.#alarm.interrupted('the CA ended the feed');
      } catch (error) {
        if (signal.aborted) return;
        const reason = (error as Error).message;
        if (error instanceof PkiError && error.code === 'foreign-cursor') {
          this.#alarm.foreign(reason);
          return;
        }
        this.#alarm.interrupted(reason);
      }
      await pause(backOff.failed() * (0.5 + Math.random()), signal);
    }
  }

  /** Follows as one that confirms, where it does and the CA's version knows of it. */
  async #ask(
    cursor: FeedCursor | undefined,
    signal: AbortSignal,
    confirmations: Confirmations | undefined,
  ): Promise<Dispatcher.ResponseData> {
    const [url, on] = [`${this.#url}/v1/feed`, { dispatcher: this.#agent, signal }];
    if (confirmations) {
      const { body } = confirmations;
      const headers = { 'content-type': 'application/x-ndjson' };
      const response = await request(url, { ...on, method: 'POST', headers, body });
      const isUnknown = response.statusCode === 404 || response.statusCode === 405;
      if (!isUnknown) return response;
      const { type, detail = '' } = await problemIn(response.body);
      if (type === 'urn:warifu:problem:foreign-cursor') throw new PkiError('foreign-cursor', detail);
      // Said by a CA, and not by something in between: of an earlier version.
      if (type !== 'urn:warifu:problem:not-found')
        throw new PkiError(
          'record-unavailable',
          `the CA refused the feed with ${response.statusCode}: ${detail}`,
        );
    }
    const query = cursor ? `?cursor=${encodeURIComponent(JSON.stringify(cursor))}` : '';
    return request(`${url}${query}`, on);
  }

  #confirmations(cursor: FeedCursor | undefined, signal: AbortSignal): Confirmations | undefined {
    if (this.#answersForMs === undefined) return undefined;
    return new Confirmations({ key: this.#key, answersForMs: this.#answersForMs }, cursor, signal);
  }

  async *#connect(
    cursor: FeedCursor | undefined,
    signal: AbortSignal,
    confirmations: Confirmations | undefined,
  ): AsyncIterable<FeedBatch> {
    const response = await this.#ask(cursor, signal, confirmations);
    if (response.statusCode !== 200) {
      const { detail = '', type } = await problemIn(response.body);
      // By its name, not by its status: any proxy, and a CA that is just starting, may answer 404.
      if (type === 'urn:warifu:problem:foreign-cursor') throw new PkiError('foreign-cursor', detail);
      throw new PkiError(
        'record-unavailable',
        `the CA refused the feed with ${response.statusCode}: ${detail}`,
      );
    }
    try {
      for await (const line of linesOf(response.body, batchOctetsMax))
        yield JSON.parse(line.toString('utf8')) as FeedBatch;
    } finally {
      response.body.destroy();
    }
  }
}

/** Octets of one batch: some thousand events, each with what is sealed for the CA, are a few million. */
const batchOctetsMax = 256 * 2 ** 20;

/** Octets of an answer about CRLs: those of one shard in base64, or numbers of all shards of a nation. */
const answerOctetsMax = 256 * 2 ** 20;

/** Octets of a refusal that are read. */
const problemOctetsMax = 65_536;

/** A problem document (RFC 9457); empty where the answer is none. */
async function problemIn(body: Readable): Promise<{ readonly type?: string; readonly detail?: string }> {
  let text = '';
  for await (const chunk of body.setEncoding('utf8') as AsyncIterable<string>) {
    text += chunk;
    if (text.length > problemOctetsMax) break;
  }
  try {
    const problem: unknown = JSON.parse(text);
    return typeof problem === 'object' && problem !== null ? problem : {};
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return {};
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
}
