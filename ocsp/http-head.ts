/** Head of an HTTP request in one of the exact forms that OCSP clients send (RFC 6960 appendix A). */
export interface SimpleHead {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Octets of the body; zero for GET. */
  readonly length: number;
  /** Whether another request may follow on the connection. */
  readonly keepAlive: boolean;
}

const requestLine = /^(GET|POST) (\/[!-~]*) HTTP\/1\.([01])$/;
const headerLine = /^([A-Za-z-]+):[ \t]*([!-~](?:[ -~]*[!-~])?)?[ \t]*$/;
/** Headers that change nothing about the answer. */
const ignored = new Set([
  'host',
  'accept',
  'accept-encoding',
  'accept-language',
  'user-agent',
  'cache-control',
  'pragma',
]);

/**
 * Reads a head, from the request line up to and without the empty line. undefined for whatever is not one of the simple
 * forms: another header, a repeated one, an upgrade, a transfer coding. Nothing is wrong with those; they are for a
 * parser that knows all of HTTP.
 */
export function parseSimpleHead(text: string): SimpleHead | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const line = requestLine.exec(first);
  if (!line) return undefined;
  const [, method, path = '', minor] = line;
  const headers = new Map<string, string>();
  for (const header of lines) {
    const match = headerLine.exec(header);
    const name = match?.[1]?.toLowerCase() ?? '';
    if (!match || headers.has(name)) return undefined;
    headers.set(name, match[2] ?? '');
  }
  const connection = headers.get('connection')?.toLowerCase();
  const length = headers.get('content-length') ?? '';
  const type = headers.get('content-type');
  for (const name of ['connection', 'content-length', 'content-type']) headers.delete(name);
  if (minor === '1' && !headers.has('host')) return undefined;
  if ([...headers.keys()].some((name) => !ignored.has(name))) return undefined;
  if (connection !== undefined && connection !== 'close' && (connection !== 'keep-alive' || minor === '0'))
    return undefined;
  const keepAlive = minor === '1' && connection !== 'close';
  if (method === 'GET') {
    return length === '' && type === undefined ? { method, path, length: 0, keepAlive } : undefined;
  }
  if (!/^[1-9][0-9]{0,4}$/.test(length) || type !== 'application/ocsp-request') return undefined;
  return { method: 'POST', path, length: Number(length), keepAlive };
}

/** Base64 of the request behind the responder's address, percent-encoded or not. No octets where it is not base64. */
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
