import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Clock } from '../core/clock.ts';
import type { OcspAnswer, Responder } from './responder.ts';
import { entityTag } from './response.ts';

/** OCSP over HTTP (RFC 6960 appendix A, RFC 5019 §5, §6). */
export function ocspServer(options: { responder: Responder; clock: Clock; requestBytesMax: number }): Server {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (request, response) => {
    respond(options, request, response).catch(() => {
      // What fails here is the connection, or is ours; the client learns no more than that.
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  });
  return server;
}

async function respond(
  { responder, clock, requestBytesMax }: Parameters<typeof ocspServer>[0],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method === 'POST') {
    if (request.headers['content-type'] !== 'application/ocsp-request') return refuse(response, 415);
    const body = await readBody(request, requestBytesMax);
    if (!body) return refuse(response, 413);
    return send(response, await responder.answer(body), clock, 'POST');
  }
  if (request.method === 'GET') {
    const encoded = requestInPath(request.url ?? '/');
    if (encoded.length > requestBytesMax) return refuse(response, 414);
    return send(response, await responder.answer(encoded), clock, 'GET');
  }
  response.setHeader('Allow', 'GET, POST');
  return refuse(response, 405);
}

function refuse(response: ServerResponse, status: number): void {
  // The rest of a refused body is not read.
  response.writeHead(status, { 'Content-Length': 0, Connection: 'close' }).end();
}

/** Base64 of the request, percent-encoded, behind the responder's address. No octets where it is not base64. */
export function requestInPath(url: string): Buffer {
  const path = url.split('?')[0] ?? '';
  let text: string;
  try {
    text = decodeURIComponent(path.replace(/^\/+/, ''));
  } catch {
    return Buffer.alloc(0);
  }
  const encoded = /^[A-Za-z0-9+/]+={0,2}$/.test(text) ? text : '';
  return Buffer.from(encoded, 'base64');
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

/** RFC 5019 §6.2: how long a GET's answer may be kept, and until when it is fresh. */
function send(
  response: ServerResponse,
  { der, cacheable }: OcspAnswer,
  clock: Clock,
  method: 'GET' | 'POST',
): void {
  response.setHeader('Content-Type', 'application/ocsp-response');
  response.setHeader('Content-Length', der.length);
  if (cacheable && method === 'GET') {
    const { thisUpdateMs, nextUpdateMs } = cacheable;
    const maxAge = Math.max(0, Math.floor((nextUpdateMs - clock.wallMs()) / 1000));
    response.setHeader('Last-Modified', new Date(thisUpdateMs).toUTCString());
    response.setHeader('Expires', new Date(nextUpdateMs).toUTCString());
    response.setHeader('ETag', entityTag(der));
    response.setHeader('Cache-Control', `max-age=${maxAge}, public, no-transform, must-revalidate`);
  } else {
    response.setHeader('Cache-Control', 'no-store');
  }
  response.writeHead(200).end(der);
}
