/** Head of an HTTP request in one of the exact forms that most clients send. */
export interface SimpleHead {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** Octets of the body; zero for GET. */
  readonly length: number;
  /** Whether another request may follow on the connection. */
  readonly keepAlive: boolean;
  /** Accept-Encoding; empty where there is none. */
  readonly acceptEncoding: string;
}

const requestLine = /^(GET|POST) (\/[!-~]*) HTTP\/1\.([01])$/;
const headerLine = /^([A-Za-z-]+):[ \t]*([!-~](?:[ -~]*[!-~])?)?[ \t]*$/;
/** Headers that change nothing about an answer. */
const ignored = new Set(['host', 'accept', 'accept-language', 'user-agent', 'cache-control', 'pragma']);

const handled = ['connection', 'content-length', 'content-type', 'accept-encoding'];

/**
 * Reads a head, from the request line up to and without the empty line. undefined for whatever is not one of the simple
 * forms: another header, a repeated one, an upgrade, a transfer coding. Nothing is wrong with those; they are for a
 * parser that knows all of HTTP. A POST must be of the content type `posted`.
 */
export function parseSimpleHead(text: string, posted: string | null): SimpleHead | undefined {
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
  const acceptEncoding = headers.get('accept-encoding') ?? '';
  for (const name of handled) headers.delete(name);
  if (minor === '1' && !headers.has('host')) return undefined;
  if ([...headers.keys()].some((name) => !ignored.has(name))) return undefined;
  if (connection !== undefined && connection !== 'close' && (connection !== 'keep-alive' || minor === '0'))
    return undefined;
  const keepAlive = minor === '1' && connection !== 'close';
  if (method === 'GET') {
    return length === '' && type === undefined
      ? { method, path, length: 0, keepAlive, acceptEncoding }
      : undefined;
  }
  if (!/^[1-9][0-9]{0,4}$/.test(length) || type === undefined || type !== posted) return undefined;
  return { method: 'POST', path, length: Number(length), keepAlive, acceptEncoding };
}
