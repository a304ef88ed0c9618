import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { notModified, preconditionFailed, rangeOf } from '../../core/http/conditions.ts';
import type { SimpleHandler } from '../../core/http/connection.ts';
import {
  arrivalOf,
  FastPathServer,
  refusalHeaders,
  type SimpleServerOptions,
} from '../../core/http/fast-path-server.ts';
import { originForm } from '../../core/http/http-target.ts';
import { answerProbe, isProbe } from '../../core/http/probes.ts';
import { type Sentence, sendSentence, wantsPage } from '../../core/http/sentence.ts';
import {
  type Arrival,
  arrivalInFront,
  authorizePath,
  type FrontSays,
  type Identified,
  type VerifierRegister,
} from '../../core/http/verifier-register.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { fileName, isFilterPath, isOpenPath, slotOfPath } from '../encode/names.ts';
import { codingFor } from './content-coding.ts';
import { type Coding, type FileForm, onePieceMax, type PublishedFiles } from './files.ts';

export interface CrlServerOptions extends SimpleServerOptions {
  readonly files: PublishedFiles;
  readonly verifiers: VerifierRegister;
  /** Whether what is given is for the one who asks alone, and no shared cache may keep it. */
  readonly isPrivate: () => boolean;
  /** See `arrivalInFront`. */
  readonly fromFront: readonly FrontSays[];
  readonly clock: Clock;
  /** How long caches may keep a CRL at most; null: until its nextUpdate. */
  readonly cacheAgeMsMax: number | null;
}

const sentence: Sentence = {
  title: 'CRL publisher',
  text: 'Programs get certificate revocation lists (RFC 5280) here, at the addresses that certificates name; there is nothing to see.',
};

/** What a simple request asks for, and a form of it or the HTTP status that says why not. */
interface Target {
  readonly path: string;
  readonly coding: Coding;
  /** Who asks; null where anyone may. */
  readonly asked: Identified | null;
}
type Found = FileForm | 404 | 500 | 503;

/**
 * CRLs at their distribution points and CA certificates at their AIA addresses (RFC 5280 §4.2.1.13, §4.2.2.1; RFC 2585),
 * and the index of shards.
 */
export class CrlServer {
  readonly #options: CrlServerOptions;
  readonly #server: FastPathServer<Target, Found>;

  constructor(options: CrlServerOptions) {
    this.#options = options;
    this.#server = new FastPathServer(options);
  }

  create(port: number): Server {
    return this.#server.create(this.#simple(port), (request, response) =>
      this.#respond(port, request, response),
    );
  }

  /** The same for verifiers over TLS. */
  createTls(
    port: number,
    tls: { readonly key: string; readonly cert: string; readonly ca: string },
  ): TlsServer {
    return this.#server.createTls(tls, (request, response) => this.#respond(port, request, response));
  }

  close(): void {
    this.#server.close();
  }

  #simple(port: number): SimpleHandler<Target, Found> {
    const { files, verifiers } = this.#options;
    return {
      posted: null,
      failure: 500,
      recognize: ({ path, acceptEncoding }) => {
        const named = this.#nameIn({ port, path, certificate: null, isProtected: false });
        return typeof named === 'number' ? undefined : { ...named, coding: codingFor(acceptEncoding) };
      },
      admits: ({ asked }) => asked === null || verifiers.admits(asked),
      ask: ({ path, coding }, _head, _body, done) => {
        const form = files.inMemory(path)?.forms.get(coding);
        if (form) done(form);
        else void this.#find(path, coding).then(done);
      },
      append: (out, found, { keepAlive }) => {
        out.push(
          ...(typeof found === 'number' ? [this.#refusal(found, keepAlive)] : this.#whole(found, keepAlive)),
        );
      },
    };
  }

  /** The file that a request names, and who asks; the status of a refusal where there is none, or the verifier may not have it. */
  #nameIn(arrival: Arrival): Pick<Target, 'path' | 'asked'> | 403 | 404 {
    const open = fileName(arrival.path);
    if (open !== undefined && isOpenPath(open)) return { path: open, asked: null };
    const asked = this.#options.verifiers.recognize(arrival);
    if (typeof asked === 'number') return asked;
    const path = fileName(asked.path);
    if (path === undefined) return 404;
    if (isFilterPath(path) && asked.verifier === null) return 403;
    const only = asked.verifier?.only ?? null;
    // The index lists both kinds.
    const isOther = path === 'crl/index.json' || (slotOfPath(path) ?? only) !== only;
    return only !== null && isOther ? 403 : { path, asked };
  }

  /** Says whether a server in front may give out the file that it has: 204, or 403, for nginx takes any other for an error of ours. */
  #authorize({ headers }: IncomingMessage, response: ServerResponse): void {
    const arrival = arrivalInFront(headers, this.#options.fromFront);
    const isAllowed = arrival !== undefined && typeof this.#nameIn(arrival) !== 'number';
    response.writeHead(isAllowed ? 204 : 403, refusalHeaders).end();
  }

  /** What is given to a request; the status of a refusal where it is none. Counts as one of the verifier's. */
  async #found(arrival: Arrival, coding: Coding): Promise<Found | 403 | 429> {
    const named = this.#nameIn(arrival);
    if (typeof named === 'number') return named;
    if (named.asked !== null && !this.#options.verifiers.admits(named.asked)) return 429;
    return this.#find(named.path, coding);
  }

  async #find(path: string, wanted: Coding): Promise<Found> {
    // A filter is as dense as it can be.
    const coding = isFilterPath(path) ? 'identity' : wanted;
    const { files, failed } = this.#options;
    try {
      const file = await files.load(path);
      return file ? await files.form(file, coding) : 404;
    } catch (error) {
      if (error instanceof PkiError && error.code === 'overloaded') return 503;
      failed(error);
      return 500;
    }
  }

  /** A whole answer, in parts; all of one second are the same. */
  #whole(form: FileForm, keepAlive: boolean): readonly Buffer[] {
    const second = Math.floor(this.#options.clock.wallMs() / 1000);
    if (keepAlive && form.memo?.second === second) return form.memo.parts;
    const headers = { ...this.#headers(form), ...(keepAlive ? {} : { Connection: 'close' }) };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = Buffer.from(`HTTP/1.1 200 OK\r\n${lines.join('')}\r\n`, 'latin1');
    const parts = form.body.length <= onePieceMax ? [Buffer.concat([head, form.body])] : [head, form.body];
    if (keepAlive) form.memo = { second, parts };
    return parts;
  }

  #headers(form: FileForm): Record<string, string> {
    const { file, coding, body, entityTag } = form;
    const nowMs = this.#options.clock.wallMs();
    const { cacheAgeMsMax, isPrivate } = this.#options;
    const leftMs = (file.freshUntilMs ?? Number.POSITIVE_INFINITY) - nowMs;
    const ageMs = Math.min(leftMs, file.ageMsMax, cacheAgeMsMax ?? Number.POSITIVE_INFINITY);
    const age = Math.max(0, Math.floor(ageMs / 1000));
    return {
      Date: new Date(nowMs).toUTCString(),
      'Content-Type': file.type,
      'Content-Length': String(body.length),
      ...(coding === 'identity' ? {} : { 'Content-Encoding': coding }),
      Vary: 'Accept-Encoding',
      'Accept-Ranges': 'bytes',
      ETag: entityTag,
      ...(isPast(file, nowMs) ? { 'Last-Modified': new Date(file.lastModifiedMs).toUTCString() } : {}),
      ...(file.ageMsMax === 0
        ? { 'Cache-Control': 'no-cache' }
        : {
            'Cache-Control': `${isPrivate() ? 'private' : 'public'}, max-age=${age}, must-revalidate`,
            Expires: new Date(nowMs + age * 1000).toUTCString(),
          }),
    };
  }

  /** By node:http: conditions, ranges, other methods, and refusals. */
  async #respond(port: number, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url = '/', headers } = request;
    const probed = originForm(url);
    if (isProbe(probed)) {
      const isThere = typeof (await this.#find('crl/index.json', 'identity')) !== 'number';
      const reasons = isThere ? [] : ['nothing is published yet'];
      return answerProbe(response, { path: probed, method, reasons });
    }
    if (method !== 'GET' && method !== 'HEAD') {
      response.writeHead(405, { ...refusalHeaders, Allow: 'GET, HEAD', Connection: 'close' }).end();
      return;
    }
    const path = originForm(url);
    if (path === authorizePath) {
      this.#authorize(request, response);
      return;
    }
    if (path === '/' && wantsPage(request)) return sendSentence(response, sentence, method);
    // A part is of the file as it is: parts of another compression of the same file would not fit together.
    const coding =
      headers.range === undefined ? codingFor(String(headers['accept-encoding'] ?? '')) : 'identity';
    const found = await this.#found(arrivalOf(request.socket, port, path), coding);
    if (typeof found === 'number') {
      const retry = found === 503 || found === 429 ? { 'Retry-After': '1' } : {};
      response.writeHead(found, { ...refusalHeaders, ...retry }).end();
      return;
    }
    const all = this.#headers(found);
    const nowMs = this.#options.clock.wallMs();
    const { entityTag, file, body } = found;
    const { lastModifiedMs } = file;
    if (preconditionFailed(headers, { entityTag, lastModifiedMs })) {
      response.writeHead(412, refusalHeaders).end();
      return;
    }
    if (notModified(headers, { entityTag, lastModifiedMs: isPast(file, nowMs) ? lastModifiedMs : null })) {
      const { 'Content-Length': _length, 'Content-Type': _type, ...kept } = all;
      response.writeHead(304, kept).end();
      return;
    }
    // Of HEAD no part can be had (RFC 9110 §14.2).
    const range = method === 'GET' ? rangeOf(headers, found, body.length) : undefined;
    const total = body.length;
    if (range === 'unsatisfiable') {
      response.writeHead(416, { ...refusalHeaders, 'Content-Range': `bytes */${total}` }).end();
      return;
    }
    const { start, end } = range ?? { start: 0, end: total };
    const part = range ? { 'Content-Range': `bytes ${start}-${end - 1}/${total}` } : {};
    response.writeHead(range ? 206 : 200, { ...all, ...part, 'Content-Length': String(end - start) });
    response.end(method === 'HEAD' ? undefined : found.body.subarray(start, end));
  }

  #refusal(status: 404 | 500 | 503, keepAlive: boolean): Buffer {
    const headers = {
      Date: new Date(this.#options.clock.wallMs()).toUTCString(),
      ...refusalHeaders,
      ...(status === 503 ? { 'Retry-After': '1' } : {}),
      ...(keepAlive ? {} : { Connection: 'close' }),
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n`, 'latin1');
  }
}

/** A time in the future says nothing: versions that follow each other fast may be ahead of the clock. */
const isPast = ({ lastModifiedMs }: FileForm['file'], nowMs: number): boolean => lastModifiedMs <= nowMs;
