import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import type { SimpleHandler } from '../../core/http/connection.ts';
import {
  arrivalOf,
  FastPathServer,
  type Respond,
  refusalHeaders,
  type SimpleServerOptions,
} from '../../core/http/fast-path-server.ts';
import { isMediaType, originForm } from '../../core/http/http-target.ts';
import { answerProbe, isProbe } from '../../core/http/probes.ts';
import { type Sentence, sendSentence, wantsPage } from '../../core/http/sentence.ts';
import {
  arrivalInFront,
  authorizePath,
  type FrontSays,
  type Identified,
  type VerifierRegister,
} from '../../core/http/verifier-register.ts';
import type { Responder } from '../answer.ts';
import { cachingHeaders, isKnown, wholeAnswer } from '../protocol/http-answer.ts';
import { type Answer, httpDate } from '../protocol/prepared-answer.ts';
import { requestInPath } from '../protocol/request-path.ts';
import { errors } from '../sign/sign.ts';

export interface ServerOptions extends SimpleServerOptions {
  readonly responder: Responder;
  readonly verifiers: VerifierRegister;
  /** Whether what is answered is for the one who asks alone, and no shared cache may keep it. */
  readonly isPrivate: () => boolean;
  /** See `arrivalInFront`. */
  readonly fromFront: () => readonly FrontSays[];
  readonly requestBytesMax: number;
  readonly answered: (answer: Answer) => void;
  /** Whether the feed lags, so that nothing is signed. */
  readonly isLate: () => boolean;
}

const requestType = 'application/ocsp-request';
const sentence: Sentence = {
  title: 'OCSP responder',
  text: 'Programs ask here whether a certificate has been revoked (OCSP, RFC 6960); there is nothing to see.',
};

/** OCSP over HTTP (RFC 6960 appendix A, RFC 9919 §6, §7), on any number of ports. */
export class OcspServer {
  readonly #options: ServerOptions;
  readonly #server: FastPathServer<Identified, Answer>;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#server = new FastPathServer(options);
  }

  /** A server to listen with. */
  create(port: number): Server {
    const handler = simpleHandler(this.#options, port, () => this.#server.hasUnsent);
    return this.#server.create(handler, this.#respond(port));
  }

  /** The same for verifiers over TLS. */
  createTls(
    port: number,
    tls: { readonly key: string; readonly cert: string; readonly ca: string },
  ): TlsServer {
    return this.#server.createTls(tls, this.#respond(port));
  }

  /** Writes what has been answered. */
  flush(): void {
    this.#server.flush();
  }

  /** Has connections end once they are answered. */
  close(): void {
    this.#server.close();
  }

  #respond(port: number): Respond {
    return (request, response) => respond({ ...this.#options, port }, request, response);
  }
}

function simpleHandler(
  { responder, verifiers, clock, requestBytesMax, isPrivate, answered }: ServerOptions,
  port: number,
  hasUnsent: () => boolean,
): SimpleHandler<Identified, Answer> {
  return {
    posted: requestType,
    failure: errors.internalError,
    recognize: ({ method, path, length }) => {
      // A person's browser, perhaps.
      if (method === 'GET' && (path === '/' || path === authorizePath || isProbe(path))) return undefined;
      if (Math.max(length, path.length) > requestBytesMax) return undefined;
      const found = verifiers.recognize({ port, path, certificate: null, isProtected: false });
      return typeof found === 'number' ? undefined : found;
    },
    admits: (found) => verifiers.admits(found),
    ask: ({ path, verifier }, { method }, body, done) =>
      responder.ask(method === 'POST' ? body : requestInPath(path), verifier, done),
    append: (out, answer, head) => {
      answered(answer);
      out.push(
        wholeAnswer(answer, clock.wallMs(), head, { mayBeUnsent: hasUnsent(), isPrivate: isPrivate() }),
      );
    },
  };
}

async function respond(
  options: ServerOptions & { readonly port: number },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { verifiers, port } = options;
  const { method, socket, url = '/' } = request;
  const path = originForm(url);
  if (isProbe(path)) {
    const reasons = options.isLate() ? ['the feed lags: requests are answered tryLater'] : [];
    return answerProbe(response, { path, method, reasons });
  }
  if (path === authorizePath) {
    authorize(options, request, response);
    return;
  }
  const identified = verifiers.identify(arrivalOf(socket, port, path));
  if (typeof identified === 'number') return refuse(response, identified);
  if (method === 'POST') return answerPost(options, identified, request, response);
  if (method === 'GET' || method === 'HEAD') return answerGet(options, identified, request, response);
  response.setHeader('Allow', 'GET, HEAD, POST');
  refuse(response, 405);
}

async function answerPost(
  { responder, requestBytesMax, verifiers, port, answered }: ServerOptions & { readonly port: number },
  { verifier }: Identified,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (!isMediaType(request.headers['content-type'], requestType)) return refuse(response, 415);
  const body = await readBody(request, requestBytesMax);
  if (!body) return refuse(response, 413);
  // It may have been suspended while its body arrived.
  const now = verifiers.recognize(arrivalOf(request.socket, port, originForm(request.url ?? '/')));
  if (typeof now === 'number') return refuse(response, now);
  const answer = await responder.answer(body, verifier);
  answered(answer);
  const { der } = answer;
  const headers = { 'Content-Type': 'application/ocsp-response', 'Content-Length': der.length };
  response.writeHead(200, { ...headers, 'Cache-Control': 'no-store' }).end(der);
}

async function answerGet(
  { responder, clock, requestBytesMax, isPrivate, answered }: ServerOptions,
  { path, verifier }: Identified,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method } = request;
  if (path === '/' && wantsPage(request)) return sendSentence(response, sentence, method);
  const encoded = requestInPath(path);
  if (path.length > requestBytesMax) return refuse(response, 414);
  const answer = await responder.answer(encoded, verifier);
  answered(answer);
  const nowMs = clock.wallMs();
  const caching = { Date: httpDate(nowMs), ...cachingHeaders(answer, nowMs, isPrivate()) };
  if (isKnown(answer, request.headers)) {
    response.writeHead(304, caching).end();
    return;
  }
  const headers = { 'Content-Type': 'application/ocsp-response', 'Content-Length': answer.der.length };
  response.writeHead(200, { ...headers, ...caching }).end(method === 'HEAD' ? undefined : answer.der);
}

/** A path with its percent-encoding undone; empty where that is wrong. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return '';
  }
}

/** Says whether a server in front may give out what it has: 204, or why not. */
function authorize(
  { verifiers, responder, fromFront }: ServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const arrival = arrivalInFront(request.headers, fromFront());
  const identified = arrival ? verifiers.recognize(arrival) : 403;
  if (typeof identified === 'number') {
    response.writeHead(identified, refusalHeaders).end();
    return;
  }
  const { path, verifier } = identified;
  const encoded = requestInPath(path);
  // Only as it is written without detours: what is in front finds a file by it.
  const isPlain = decoded(path) === `/${encoded.toString('base64')}`;
  const status = isPlain && responder.mayAsk(encoded, verifier) ? 204 : 403;
  response.writeHead(status, refusalHeaders).end();
}

function refuse(response: ServerResponse, status: number): void {
  // The rest of a refused body is not read.
  response.writeHead(status, { ...refusalHeaders, Connection: 'close' }).end();
}

async function readBody(request: IncomingMessage, max: number): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > max) return undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > max) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
