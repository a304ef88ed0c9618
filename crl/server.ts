import { readFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { digest, hex } from '../core/bytes.ts';
import { parseCrl } from './reader.ts';
import type { ShardIndex } from './shards.ts';

/** Paths this server knows; nothing else reaches the file system. */
export const crlPath = /^\/crl\/[A-Za-z0-9-]+(\/[A-Za-z0-9-]+){0,3}\.crl$/;
const certificatePath = /^\/ca\/([a-z0-9-]+)\.cer$/;

/** CRLs at their distribution points and CA certificates at their AIA addresses (RFC 5280 §4.2.1.13, §4.2.2.1; RFC 2585). */
export function crlServer(folder: string, index: ShardIndex): Server {
  return createServer({ requestTimeout: 10_000 }, (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { Allow: 'GET, HEAD', 'Content-Length': 0 }).end();
      return;
    }
    const path = (request.url ?? '/').split('?')[0] ?? '/';
    const authority = certificatePath.exec(path)?.[1];
    const certificate = authority === undefined ? undefined : index.authorities.get(authority);
    if (certificate)
      sendOctets(request.headers['if-none-match'], response, certificate, 'application/pkix-cert');
    else if (crlPath.test(path)) void sendCrl(join(folder, path), request.headers['if-none-match'], response);
    else notFound(response);
  });
}

async function sendCrl(
  file: string,
  ifNoneMatch: string | undefined,
  response: ServerResponse,
): Promise<void> {
  try {
    const der = await readFile(file);
    const { thisUpdateMs, nextUpdateMs } = parseCrl(der);
    response.setHeader('Last-Modified', new Date(thisUpdateMs).toUTCString());
    response.setHeader('Expires', new Date(nextUpdateMs).toUTCString());
    sendOctets(ifNoneMatch, response, der, 'application/pkix-crl');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') notFound(response);
    else response.writeHead(500, { 'Content-Length': 0 }).end();
  }
}

function sendOctets(
  ifNoneMatch: string | undefined,
  response: ServerResponse,
  octets: Uint8Array,
  type: string,
): void {
  const tag = `"${hex(digest('sha256', octets)).slice(0, 32)}"`;
  response.setHeader('ETag', tag);
  // A new CRL may come at any moment: caches ask again, and are told cheaply.
  response.setHeader('Cache-Control', 'public, no-cache');
  if (ifNoneMatch === tag) {
    response.writeHead(304).end();
    return;
  }
  response.writeHead(200, { 'Content-Type': type, 'Content-Length': octets.length }).end(octets);
}

function notFound(response: ServerResponse): void {
  response.writeHead(404, { 'Content-Length': 0 }).end();
}
