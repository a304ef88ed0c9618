// Floods a service from a process of its own, until it is ended: a registered client on one kind of request, or a stranger.
// Argument: a file with a JSON object. Says how many requests were answered, and how many refused, once a second, as JSON lines.
import { readFileSync } from 'node:fs';
import { type ConnectionOptions, connect } from 'node:tls';
import { Agent, request } from 'undici';

interface FloodOptions {
  readonly url: string;
  readonly connections: number;
  /** Files of PEM; none for a stranger, or for plain HTTP. */
  readonly tls?: { readonly key?: string; readonly cert?: string; readonly ca: string };
  /** Where it comes from, so that its connections are counted apart from others'. */
  readonly localAddress: string;
  /** Sent round and round; none: connections alone, each up to the end of its handshake. */
  readonly requests: readonly {
    readonly method: 'GET' | 'POST';
    readonly path: string;
    readonly body?: string;
    readonly type?: string;
  }[];
}

const options = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as FloodOptions;
const { url, connections, tls, localAddress, requests } = options;
const pem = (file: string | undefined): string | undefined =>
  file === undefined ? undefined : readFileSync(file, 'utf8');
const counts = { answered: 0, refused: 0, failed: 0 };
setInterval(() => process.stdout.write(`${JSON.stringify(counts)}\n`), 1000);

const files = tls && { key: pem(tls.key), cert: pem(tls.cert), ca: pem(tls.ca) };
const agent = new Agent({
  connections,
  localAddress,
  connect: { ...(files as object), timeout: 5000, rejectUnauthorized: false },
  headersTimeout: 30_000,
  bodyTimeout: 30_000,
});

let next = 0;
async function ask(): Promise<void> {
  const { method, path, body, type } = requests[next++ % requests.length] ?? { method: 'GET', path: '/' };
  try {
    const response = await request(`${url}${path}`, {
      ...{ dispatcher: agent, method },
      headers: {
        'idempotency-key': crypto.randomUUID(),
        ...(type === undefined ? {} : { 'content-type': type }),
      },
      ...(body === undefined ? {} : { body: Buffer.from(body, 'base64') }),
    });
    await response.body.dump();
    if (response.statusCode === 429 || response.statusCode === 503) counts.refused += 1;
    else counts.answered += 1;
  } catch {
    counts.failed += 1;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A connection up to the end of its handshake, or of the patience of the server. */
function connectOnce(): Promise<void> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({
      ...{ host: hostname, port: Number(port), localAddress },
      rejectUnauthorized: false,
    } as ConnectionOptions);
    const over = (): void => {
      socket.destroy();
      resolve();
    };
    socket.once('secureConnect', () => {
      counts.answered += 1;
      over();
    });
    socket.once('error', () => {
      counts.failed += 1;
      setTimeout(over, 5);
    });
    socket.setTimeout(5000, over);
  });
}

for (let i = 0; i < connections; i++)
  void (async () => {
    for (;;) await (requests.length === 0 ? connectOnce() : ask());
  })();
